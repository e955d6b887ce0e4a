"""The first try: rerank a third of the demo table with configs/quickstart.yaml, then show what that did to nDCG@10."""

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
from reranker_batch.storage.files.filesystem import resolve

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
SLICE = Path("out", "quickstart-input.parquet")
EVERY = 3
"""One query of three: every topic of the table is in it, and two CPU cores score it in about a minute."""


@guarded
def main() -> int:
    write_slice(JobConfig.load(CONFIG).input.path, SLICE)
    config = JobConfig.load(CONFIG, overrides=[f"input.path={SLICE}"])
    exit_code = run_and_summarize(config)
    report = json.loads(Path(config.output.path, "run", "report.json").read_text(encoding="utf-8"))
    candidates = pl.read_parquet(SLICE).explode("candidates").unnest("candidates")
    results = pl.read_parquet(f"{config.output.path}/scores/*.parquet")
    before = ndcg_at_10(candidates, -pl.col("retrieval_rank"), candidates)
    after = ndcg_at_10(results, pl.col("logit"), candidates)
    rows = [
        ("first stage (BM25)", f"{before:.4f}", "", ""),
        ("after reranking", f"{after:.4f}", f"{report['totals']['scored']:,}", f"{report['wall_s']:.0f} s"),
    ]
    show_table("What reranking did to a third of the demo table", ["order", "nDCG@10", "pairs", "time"], rows)
    return exit_code


def write_slice(path: str, target: Path) -> None:
    """Write every third query of a table; a file that is there is kept, because a resumed run compares its time."""
    if target.exists():
        return
    _, file = resolve(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_suffix(".staged")
    pl.read_parquet(file).gather_every(EVERY).write_parquet(staged)
    staged.replace(target)


def ndcg_at_10(run: pl.DataFrame, score: pl.Expr, labels: pl.DataFrame) -> float:
    """Mean over queries, by trec_eval's definition (ir-measures)."""
    scored = [ScoredDoc(*row) for row in run.select("query_id", "doc_id", score.cast(pl.Float64)).iter_rows()]
    qrels = [Qrel(*row) for row in labels.select("query_id", "doc_id", "relevance").iter_rows()]
    return float(ir_measures.calc_aggregate([nDCG @ 10], qrels, scored)[nDCG @ 10])


if __name__ == "__main__":
    sys.exit(main())
