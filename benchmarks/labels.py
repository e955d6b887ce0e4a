"""What joining, deciding and exporting take.

    python benchmarks/labels.py --pairs 1000000 --candidates 20 --teachers 3

Texts and logits are drawn: teachers' outputs are published as a run would, without a model. Each command is a process
of its own, of which wall time and peak memory are taken. tests/labels/test_mining.py compares the decisions with those
of `mine_hard_negatives`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from engine import LIMITS, HashBackend

from reranker_batch.config import JobConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.fingerprint import Settings
from reranker_batch.job.job import Job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.pipeline import FinishedUnit, ResultSettings, ScoredUnit, finish_unit
from reranker_batch.printing import show_table
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.output.parts import SCORES, PartRecord, publish_part
from reranker_batch.storage.output.run_state import RunState

WORDS = 4_000
QUERIES_A_FILE = 5_000
FORMATS = ("st-n-tuple", "flagembedding")


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
            "output": {"path": str(output), "layout": "nested", "memo": False},
        }
    )
    plan = plan_input(config.input, unit_pairs=10_000 + 1_000 * seed)
    job = Job(config, HashBackend(), LIMITS, plan)
    settings = job.settings("cpu")
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
    run_job(job, inline_engine)  # finds all parts, and closes the output


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


def write_config(folder: Path, teachers: int) -> Path:
    """Labels of all teachers, with two exports."""
    values = {
        "labels": {
            "teachers": [{"name": f"t{at}", "output": str(folder / f"teacher-{at}")} for at in range(teachers)],
            "positives": {"from": "column", "column": "relevance"},
            "exports": [{"format": name, "target": str(folder / name)} for name in FORMATS],
        },
        "output": {"path": str(folder / "labels")},
    }
    path = folder / "label.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def measured(command: Sequence[str]) -> tuple[float, int]:
    """Seconds of the wall and peak memory in MiB of a process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}.")
    return time.perf_counter() - started, usage.ru_maxrss >> 10


def measure(folder: Path, teachers: int) -> list[tuple[str, ...]]:
    """All in one command, and once more what it takes to find everything complete."""
    config = write_config(folder, teachers)
    program = [sys.executable, "-m", "reranker_batch"]
    rows: list[tuple[str, ...]] = []
    for name in ("label and export", "once more: all complete"):
        seconds, mebibytes = measured([*program, "label", str(config)])
        rows.append((name, f"{seconds:.1f}", f"{mebibytes:,}"))
    return rows


def write_all(folder: Path, arguments: argparse.Namespace) -> None:
    """In a process of its own: the peak of a process counts what its parent had when it was started."""
    write_input(folder / "in", arguments.pairs // arguments.candidates, arguments.candidates)
    for seed in range(arguments.teachers):
        write_teacher(folder / "in", folder / f"teacher-{seed}", seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--teachers", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        making = get_context("spawn").Process(target=write_all, args=(folder, arguments))
        making.start()
        making.join()
        rows = measure(folder, arguments.teachers)
        report = json.loads((folder / "labels" / "run" / "labels_report.json").read_text())
    show_table(
        f"{report['candidates']:,} candidates, {arguments.teachers} teachers", ["command", "seconds", "MiB"], rows
    )
    print(f"{report['positives']:,} positives, {report['negatives']:,} negatives, dropped: {report['dropped']}")


if __name__ == "__main__":
    main()
