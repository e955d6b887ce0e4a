"""The first try: run configs/quickstart.yaml, then show what reranking did to nDCG@10."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ir_measures
import polars as pl
from ir_measures import Qrel, ScoredDoc, nDCG

from reranker_batch.cli import guarded, run_and_summarize
from reranker_batch.config import JobConfig
from reranker_batch.printing import show_table
from reranker_batch.storage.filesystem import resolve

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@guarded
def main() -> int:
    config = JobConfig.load(CONFIG)
    exit_code = run_and_summarize(config)
    report = json.loads(Path(config.output.path, "run", "report.json").read_text(encoding="utf-8"))
    candidates = read_candidates(config.input.path)
    results = pl.read_parquet(f"{config.output.path}/scores/*.parquet")
    before = ndcg_at_10(candidates, -pl.col("retrieval_rank"), candidates)
    after = ndcg_at_10(results, pl.col("logit"), candidates)
    rows = [
        ("first stage (BM25)", f"{before:.4f}", "", ""),
        ("after reranking", f"{after:.4f}", f"{report['totals']['scored']:,}", f"{report['wall_s']:.0f} s"),
    ]
    show_table("What reranking did to the demo table", ["order", "nDCG@10", "pairs", "time"], rows)
    return exit_code


def read_candidates(path: str) -> pl.DataFrame:
    """The demo table, one row a candidate, with its label."""
    _, file = resolve(path)
    return pl.read_parquet(file).explode("candidates").unnest("candidates")


def ndcg_at_10(run: pl.DataFrame, score: pl.Expr, labels: pl.DataFrame) -> float:
    """Mean over queries, by trec_eval's definition (ir-measures)."""
    scored = [ScoredDoc(*row) for row in run.select("query_id", "doc_id", score.cast(pl.Float64)).iter_rows()]
    qrels = [Qrel(*row) for row in labels.select("query_id", "doc_id", "relevance").iter_rows()]
    return float(ir_measures.calc_aggregate([nDCG @ 10], qrels, scored)[nDCG @ 10])


if __name__ == "__main__":
    sys.exit(main())
