"""A run joined with its queries and its corpus: time and memory, next to Ray's join and polars' streaming join.

    python benchmarks/prepare.py                       # 2,000,000 rows of 400,000 documents
    python benchmarks/prepare.py --times 5 --only lines parquet   # five times the rows and documents

Each contestant is a process of its own and reads the same generated tables. CPU time and memory are those of the
process and all below it; memory is the proportional share (PSS), sampled four times a second. Ray writes joined rows
that are neither ordered nor grouped; polars and this package write a row for each query.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.printing import show_table

ROWS, DOCUMENTS, ROWS_A_QUERY = 2_000_000, 400_000, 100
_WORDS = np.array([f"word{number}" for number in range(5_000)])
_STEP = 20_000
_SAMPLE_S = 0.25
_LONGEST_S = 1_800
_PARTITIONS = 16


def write_tables(folder: Path, rows: int, documents: int) -> None:
    """The run, the queries and the corpus as Parquet, and as TREC and JSON lines; the rows of the run in any order."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(7)
    write_rows(folder / "corpus", _texts(chance, documents, "doc", 20, 70))
    write_rows(folder / "queries", _texts(chance, max(1, rows // ROWS_A_QUERY), "q", 4, 9))
    order = chance.permutation(rows)
    run = pa.table(
        {
            "query_id": pa.array([f"q{at}" for at in (order // ROWS_A_QUERY).tolist()]),
            "doc_id": pa.array([f"doc{at}" for at in chance.integers(0, documents, rows).tolist()]),
            "score": np.round(chance.random(rows), 6),
        }
    )
    pq.write_table(run, folder / "run.parquet")
    with (folder / "run.trec").open("w") as file:
        for batch in run.to_batches(_STEP):
            columns = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            file.writelines(f"{query} Q0 {document} 0 {score:.6f} made\n" for query, document, score in columns)


def _texts(chance: np.random.Generator, count: int, prefix: str, least: int, most: int) -> Iterator[pa.Table]:
    for start in range(0, count, _STEP):
        ids = range(start, min(count, start + _STEP))
        lengths = chance.integers(least, most, len(ids)).tolist()
        texts = [" ".join(_WORDS[chance.integers(0, len(_WORDS), length)]) for length in lengths]
        yield pa.table({"_id": [f"{prefix}{at}" for at in ids], "text": texts})


def write_rows(path: Path, tables: Iterator[pa.Table]) -> None:
    """As `path.parquet` and as `path.jsonl`."""
    schema = pa.schema([("_id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(f"{path}.parquet", schema) as writer, open(f"{path}.jsonl", "w") as lines:
        for table in tables:
            writer.write_table(table)
            lines.writelines(json.dumps(row) + "\n" for row in table.to_pylist())


def prepare_parquet(folder: Path, goal: Path) -> None:
    _prepare(folder, goal, "run.parquet", "parquet")


def prepare_lines(folder: Path, goal: Path) -> None:
    _prepare(folder, goal, "run.trec", "jsonl")


def _prepare(folder: Path, goal: Path, run: str, form: str) -> None:
    import reranker_batch
    from reranker_batch.config.prepare_job import PrepareJob

    places = {name: str(folder / f"{name}.{form}") for name in ("queries", "corpus")}
    reranker_batch.prepare(PrepareJob.of({"prepare": {"run": str(folder / run), **places, "output": str(goal)}}))


def join_in_polars(folder: Path, goal: Path) -> None:
    """The same result by one lazy query, on the streaming engine."""
    queries = pl.scan_parquet(folder / "queries.parquet").rename({"_id": "query_id", "text": "query"})
    corpus = pl.scan_parquet(folder / "corpus.parquet").rename({"_id": "doc_id"})
    joined = pl.scan_parquet(folder / "run.parquet").join(corpus, on="doc_id", how="left")
    ordered = joined.sort(["query_id", "score", "doc_id"], descending=[False, True, False])
    nested = ordered.group_by("query_id", maintain_order=True).agg(candidates=pl.struct("doc_id", "text", "score"))
    goal.mkdir()
    nested.join(queries, on="query_id", how="left").sink_parquet(goal / "part.parquet", engine="streaming")


def join_in_ray(folder: Path, goal: Path) -> None:
    """The texts of the documents to the rows of the run, written as they come."""
    import ray
    import ray.data

    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    run, corpus = (ray.data.read_parquet(str(folder / f"{name}.parquet")) for name in ("run", "corpus"))
    joined = run.join(corpus, "left_outer", _PARTITIONS, on=("doc_id",), right_on=("_id",))
    joined.write_parquet(str(goal))


CONTESTANTS: dict[str, Callable[[Path, Path], None]] = {
    "lines": prepare_lines,
    "parquet": prepare_parquet,
    "polars": join_in_polars,
    "ray": join_in_ray,
}
_SHOWN = {
    "lines": "reranker-batch, TREC and JSON lines",
    "parquet": "reranker-batch, Parquet",
    "polars": "polars streaming join, sort and group",
    "ray": "Ray join, not grouped",
}


@dataclass
class Usage:
    """What a process and all below it took."""

    wall_s: float = 0.0
    peak_bytes: int = 0
    code: int | None = None
    cpu_of: dict[int, float] = field(default_factory=dict)

    def sample(self, root: psutil.Process) -> None:
        total = 0
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self.cpu_of[process.pid] = times.user + times.system
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        self.peak_bytes = max(self.peak_bytes, total)

    def row(self, name: str) -> tuple[str, ...]:
        end = "" if self.code == 0 else "did not end" if self.code is None else f"exit code {self.code}"
        cpu = f"{sum(self.cpu_of.values()):.0f} s"
        return (_SHOWN[name], f"{self.wall_s:.0f} s", cpu, f"{self.peak_bytes / 1e6:,.0f} MB", end)


def measure(name: str, folder: Path, goal: Path) -> Usage:
    """Run a contestant in a process of its own."""
    usage, begun = Usage(), time.monotonic()
    command = [sys.executable, __file__, "--contestant", name, "--folder", str(folder), "--goal", str(goal)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and time.monotonic() - begun < _LONGEST_S:
            with suppress(psutil.Error):
                usage.sample(psutil.Process(process.pid))
            time.sleep(_SAMPLE_S)
        usage.wall_s, usage.code = time.monotonic() - begun, process.poll()
    finally:
        process.kill()
        process.wait()
    return usage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--times", type=int, default=1, help="as many times the rows and documents")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS])
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the tables are, or go; a temporary folder without it")
    parser.add_argument("--goal", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.contestant:
        CONTESTANTS[asked.contestant](asked.folder, asked.goal)
        return
    with tempfile.TemporaryDirectory(prefix="prepare-") as scratch:
        folder = asked.folder or Path(scratch) / "tables"
        rows, documents = asked.rows * asked.times, asked.documents * asked.times
        if not (folder / "run.trec").exists():
            write_tables(folder, rows, documents)
        measured = [measure(name, folder, Path(scratch) / name).row(name) for name in asked.only]
    show_table(f"{rows:,} rows, {documents:,} documents", ["", "wall", "CPU", "peak memory", ""], measured)


if __name__ == "__main__":
    main()
