"""What joining, deciding and exporting take, and whether decisions are those of sentence-transformers.

    python benchmarks/labels.py --pairs 1000000 --candidates 20 --teachers 3
    python benchmarks/labels.py --mining --pairs 20000

Texts and logits are drawn: teachers' outputs are published as a run would, without a model. Each command is a process
of its own, of which wall time and peak memory are taken. With `--mining` the same pairs and scores are given to
`mine_hard_negatives`, and the decisions of both are compared.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.config import JobConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.fingerprint import Settings
from reranker_batch.pipeline import FinishedUnit, ResultSettings, ScoredUnit, finish_unit
from reranker_batch.schema import SCHEMA_VERSION
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.output.parts import SCORES, PartRecord, publish_part
from reranker_batch.storage.output.run_state import RunState

WORDS = 4_000
QUERIES_A_FILE = 5_000
FORMATS = ("st-triplet", "st-list", "flagembedding")


def write_input(folder: Path, queries: int, candidates: int) -> None:
    """Documents of some 60 words; the first candidate of a query is relevant, and one more for every third query."""
    rng = np.random.default_rng(1)
    words = np.array([f"word{at:04d}" for at in range(WORDS)], object)
    folder.mkdir()
    for start in range(0, queries, QUERIES_A_FILE):
        number = min(QUERIES_A_FILE, queries - start)
        lengths = np.clip(rng.lognormal(4, 0.5, number * candidates), 5, 400).astype(int)
        drawn = words[rng.integers(0, WORDS, int(lengths.sum()))]
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        texts = [f"{at} " + " ".join(drawn[bounds[at] : bounds[at + 1]]) for at in range(len(lengths))]
        ids = [f"d{start * candidates + at}" for at in range(len(lengths))]
        relevance = np.zeros(number * candidates, np.int32)
        relevance[::candidates] = 1
        relevance[1 :: 3 * candidates] = 1
        structs = pa.StructArray.from_arrays(
            [pa.array(ids), pa.array(texts), pa.array(relevance)], ["doc_id", "text", "relevance"]
        )
        offsets = pa.array(np.arange(0, len(lengths) + 1, candidates, dtype=np.int32))
        names = [f"q{start + at}" for at in range(number)]
        table = {"query_id": names, "query": [f"query {name}" for name in names]}
        lists = pa.ListArray.from_arrays(offsets, structs)
        pq.write_table(pa.table({**table, "candidates": lists}), folder / f"{start:08d}.parquet", row_group_size=500)


def write_teacher(source: Path, output: Path, seed: int) -> None:
    """A finished output with drawn logits, higher for what is relevant."""
    config = JobConfig.of(
        {
            "input": {"path": str(source), "columns": {"passthrough": ["relevance"]}},
            "model": {"name": f"teacher-{seed}"},
            "output": {"path": str(output), "layout": "nested"},
        }
    )
    plan = plan_input(config.input, unit_pairs=10_000 + 1_000 * seed)
    settings = _settings(config)
    state = RunState(Folder.at(str(output)))
    state.start(plan.units)
    state.record(_manifest(config, plan, settings), plan.units)
    rng = np.random.default_rng(seed)
    for unit in plan.units:
        rows = plan.source.read(unit)
        relevance = rows.candidates["relevance"].to_numpy()
        logits = (rng.normal(0, 1 + seed, len(relevance)) + 2 * (1 + seed) * relevance + seed).astype(np.float32)
        zeros, none = np.zeros(len(logits), np.int32), np.zeros(len(rows.queries), np.int64)
        candidates = rows.candidates.drop_columns("document")
        for name, values in {
            "query_tokens": zeros,
            "document_tokens": zeros,
            "truncated": zeros > 0,
            "_cut": zeros.astype(np.uint8),
        }.items():
            candidates = candidates.append_column(name, pa.array(values))
        queries = rows.queries.append_column("requests", pa.array(none.astype(np.int32))).append_column(
            "total_tokens", pa.array(none)
        )
        scored = ScoredUnit(unit, queries, candidates, rows.dead_letters, logits, 0, 0, "drawn")
        finished = finish_unit(scored, ResultSettings("nested", None, False, Activation(), ()))
        _publish(state.output, unit.unit_id, finished, settings.fingerprint)
    state.complete()


def _settings(config: JobConfig) -> Settings:
    source = {"layout": "nested", "columns": config.input.columns.model_dump()}
    output = {"schema_version": SCHEMA_VERSION, "layout": "nested", "top_n": None, "return_documents": False}
    return Settings({"model": config.model.name}, {}, {**output, "activation": Activation().to_dict(), "input": source})


def _manifest(config: JobConfig, plan: InputPlan, settings: Settings) -> dict[str, Any]:
    return {
        "fingerprint": settings.fingerprint,
        "scoring_fingerprint": settings.scoring_fingerprint,
        "settings": settings.to_dict(),
        "model": {"name": config.model.name},
        "input": plan.identity(),
        "config": config.model_dump(),
        "engine": "local",
        "compared_with": None,
        "versions": {},
    }


def _publish(output: Folder, unit_id: str, finished: FinishedUnit, fingerprint: str) -> None:
    record = PartRecord(unit_id, fingerprint, finished.counts, summary=finished.summary)
    publish_part(output, SCORES, finished.part, finished.schema, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--teachers", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    if not (folder / "in").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_input(folder / "in", arguments.pairs // arguments.candidates, arguments.candidates)
        for seed in range(arguments.teachers):
            write_teacher(folder / "in", folder / f"teacher-{seed}", seed)
    print(folder)


if __name__ == "__main__":
    main()
