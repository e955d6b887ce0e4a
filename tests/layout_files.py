"""The golden folders of tests/layouts: their files, their configs and what has to come out."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from engine import HashBackend, HashScorer
from oracle import logit_of

from reranker_batch import JobConfig
from reranker_batch.core.limits import RequestLimits
from reranker_batch.job.job import Job, plan_of
from reranker_batch.job.processes import in_this_process
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.preparing.ready import look_at_input, making_of, ready_input

FOLDER = Path(__file__).parent / "layouts"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())


@dataclass(frozen=True)
class Pair:
    """A candidate of the input: where it stands, what it is, and why it is a dead letter if it is one."""

    group: int
    """Number of the query, since texts may repeat."""
    query: str
    query_id: str | None
    doc_id: str | None
    index: int
    text: str | None
    reason: str | None = None


def lay_out(name: str, folder: Path) -> Path:
    """The files of a layout as a user has them, in `folder`."""
    for path in sorted((FOLDER / name).rglob("*")):
        if path.is_file() and path.name != "expected.json":
            file = path.relative_to(FOLDER / name)
            is_other = path.name.endswith((".parquet.jsonl", ".gz.plain"))
            write_file(folder / (file.with_suffix("") if is_other else file), path.read_text("utf-8"))
    return folder


def write_file(path: Path, content: str) -> None:
    """A file with this content: the rows of Parquet as JSON lines, that of a compressed file as it is unpacked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in content.splitlines()]), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode(), mtime=0))
    else:
        path.write_bytes(content.encode())


def configs_of(name: str) -> list[str]:
    return sorted(path.name for path in (FOLDER / name).glob("*.yaml"))


def expected_of(name: str) -> list[Pair]:
    """The candidates of a layout, in the order of the input that is scored."""
    return read_expected(FOLDER / name / "expected.json")


def read_expected(path: Path) -> list[Pair]:
    queries = json.loads(path.read_text("utf-8"))
    return [
        Pair(group, query["query"], query["query_id"], doc_id, index, text, *reason)
        for group, query in enumerate(queries)
        for index, (doc_id, text, *reason) in enumerate(query["candidates"])
    ]


def load(path: Path, output: Path, **ranking: Any) -> JobConfig:
    """The config of a file, as it says what to read, for the oracle on this machine."""
    values = yaml.safe_load(path.read_text("utf-8"))
    return JobConfig.of(
        {
            **values,
            "model": {"name": "builtin:mini", "device": "cpu"},
            "ranking": {"top_n": None, "return_documents": True, **ranking},
            "output": {"path": str(output), "max_failed": "100%"},
        }
    )


def score(config: JobConfig) -> None:
    """Make the input ready and run the job, with the oracle, in this process."""
    look = look_at_input(config)
    if (making := making_of(config, look)) is not None:
        making.run(in_this_process)
    plan = plan_of(config, look, ready_input(config, look))
    run_job(Job(look.known(config), HashBackend(scorer=HashScorer()), RequestLimits(), plan), inline_engine)


def right_rows(pairs: list[Pair]) -> list[tuple[Any, ...]]:
    """The scored candidates as an output has them: query by query, by rank."""
    rows: list[tuple[Any, ...]] = []
    for _, of_query in groupby((pair for pair in pairs if pair.reason is None), key=lambda pair: pair.group):
        scored = [(-_logit(pair), pair.index, pair) for pair in of_query]
        rows += [
            (pair.query_id, pair.doc_id, index, rank, pair.text, -negative)
            for rank, (negative, index, pair) in enumerate(sorted(scored, key=lambda row: row[:2]), start=1)
        ]
    return rows


def _logit(pair: Pair) -> float:
    assert pair.text is not None
    return float(logit_of(pair.query.encode(), pair.text.encode()))


def rows_of(output: Path) -> list[tuple[Any, ...]]:
    """The scored candidates of an output."""
    columns = ["query_id", "doc_id", "index", "rank", "document", "logit"]
    return pl.read_parquet(output / "scores" / "*.parquet").select(columns).rows()


def right_letters(pairs: list[Pair]) -> list[tuple[Any, ...]]:
    return [(pair.query_id, pair.doc_id, pair.index, pair.reason) for pair in pairs if pair.reason is not None]


def problems_of(output: Path, pairs: list[Pair]) -> list[str]:
    """Where an output is not what it has to be. An id that is None in `pairs` may be anything that is not empty."""
    problems = []
    for seen, right in ((rows_of(output), right_rows(pairs)), (letters_of(output), right_letters(pairs))):
        if len(seen) != len(right):
            problems.append(f"{len(seen)} rows instead of {len(right)}: {seen}")
        for row, right_row in zip(seen, right, strict=False):
            if row != (right_row[0] or row[0], right_row[1] or row[1], *right_row[2:]) or not all(row[:2]):
                problems.append(f"{row} instead of {right_row}")
    return problems


def letters_of(output: Path) -> list[tuple[Any, ...]]:
    """The dead letters of an output."""
    columns = ["query_id", "doc_id", "index", "reason_code"]
    files = sorted((output / "dead_letters").glob("*.parquet"))
    return [row for file in files for row in pl.read_parquet(file).select(columns).rows()]
