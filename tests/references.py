"""A run with its queries and its corpus in files, and the join of the three that a test makes in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl
from engine import HashBackend

from reranker_batch import JobConfig, RunReport
from reranker_batch.config.checking import checked
from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.mapping import Mapper
from reranker_batch.job.job import Job, plan_of
from reranker_batch.job.processes import in_this_process
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.preparing.joining.join import Sources, prepare_reference
from reranker_batch.preparing.joining.sizing import row_bytes
from reranker_batch.preparing.ready import look_at_input, making_of, ready_input
from reranker_batch.preparing.record import PreparedFolder, PreparedRecord
from reranker_batch.preparing.stages import numbered
from reranker_batch.storage.files.filesystem import Folder

Row = tuple[str, str, float]
"""Query id, document id, score."""
Candidate = tuple[str, str | None, float | None, int]
"""Document id, text, score, rank."""
REFERENCE_FILES = ("run", "queries", "corpus")
Query = tuple[str, str | None, list[Candidate]]


@dataclass
class Reference:
    """The three tables. Texts of ids that are not there are missing."""

    rows: list[Row]
    queries: dict[str, str]
    corpus: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def random(cls, seed: int, *, num_queries: int = 6, num_documents: int = 25) -> Reference:
        """Ids with odd characters, equal scores, pairs that are there twice, and ids without a text."""
        chance = random.Random(seed)
        marks = ["", "é", "№7", "天", "🙂", "a b", "'", '"q"', "0", "00"]
        queries = [f"{chance.choice(marks)}{number}" for number in range(chance.randint(1, num_queries))]
        documents = [f"{number}{chance.choice(marks)}" for number in range(chance.randint(1, num_documents))]
        documents += chance.sample(queries, 1)
        rows = [
            (query, chance.choice(documents), chance.choice([0.0, 1.0, -2.5, 1e300, round(chance.random(), 3)]))
            for query in queries
            for _ in range(chance.randint(1, 12))
        ]
        chance.shuffle(rows)
        settings = {
            "depth": chance.choice([None, None, 1, 3]),
            "drop_identical_ids": chance.random() < 0.3,
            "on_missing": chance.choice(["dead_letter", "dead_letter", "drop"]),
        }
        lost = chance.choice([0.0, 0.0, 0.2])
        texts = {key: f"text of {key}" for key in documents if chance.random() >= lost}
        asked = {key: f"query {key}" for key in queries if chance.random() >= lost}
        return cls(rows, asked or {queries[0]: "q"}, texts or {documents[0]: "t"}, settings)

    def write(self, folder: Path) -> PrepareConfig:
        """JSON lines, and the settings that read them."""
        folder.mkdir(parents=True, exist_ok=True)
        write_lines(folder / "run.jsonl", [dict(zip(("qid", "docid", "score"), row, strict=True)) for row in self.rows])
        write_lines(folder / "queries.jsonl", [{"_id": key, "text": text} for key, text in self.queries.items()])
        write_lines(folder / "corpus.jsonl", [{"_id": key, "text": text} for key, text in self.corpus.items()])
        return self.config(folder)

    def config(self, folder: Path, **more: Any) -> PrepareConfig:
        places = {name: str(folder / f"{name}.jsonl") for name in REFERENCE_FILES}
        return checked(PrepareConfig, {**places, **self.settings, **more}, "wrong")

    def joined(self) -> list[Query]:
        """What has to come out, by dictionaries."""
        settings = {"depth": None, "drop_identical_ids": False, "on_missing": "dead_letter", **self.settings}
        result: list[Query] = []
        for query in sorted({row[0] for row in self.rows}, key=str.encode):
            best: dict[str, float] = {}
            for _, document, score in (row for row in self.rows if row[0] == query):
                best[document] = max(score, best.get(document, score))
            if settings["drop_identical_ids"]:
                best.pop(query, None)
            ordered = sorted(best.items(), key=lambda item: (-item[1], item[0].encode()))[: settings["depth"]]
            candidates: list[Candidate] = [
                (document, self.corpus.get(document), score, rank)
                for rank, (document, score) in enumerate(ordered, start=1)
            ]
            if settings["on_missing"] == "drop":
                candidates = [each for each in candidates if each[1] is not None] if query in self.queries else []
            if candidates:
                result.append((query, self.queries.get(query), candidates))
        return result


SMALL = Reference(
    [("q1", "d1", 1.0), ("q2", "d2", 0.5), ("q1", "d3", 2.0), ("q1", "q1", 0.1), ("q2", "d1", 0.5)],
    {"q1": "first", "q2": "second"},
    {"d1": "one", "d2": "two", "d3": "three", "q1": "itself"},
)


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    """A JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def prepared(config: PrepareConfig, goal: Path, each: Mapper = in_this_process) -> PreparedRecord:
    return prepare_reference(config, str(goal), each)


def prepare_in(
    config: PrepareConfig,
    goal: Path,
    *,
    num_ranges: int = 1,
    document_buckets: int = 1,
    each: Mapper = in_this_process,
) -> PreparedRecord:
    """Begin with other ranges and buckets than the sizes of the files ask for: those on record count.

    There are as many ranges as `num_ranges` at most, fewer where there are fewer queries.
    """
    sources, folder = Sources.of(config), PreparedFolder(Folder.at(str(goal)))
    asked = sources.record(config)
    if folder.read() is None:
        rows = sum(len(table) for item in numbered(sources.run.files).items() for table in sources.run.read(*item))
        range_bytes = ceil(rows * row_bytes(sources.corpus) / num_ranges)
        folder.write(replace(asked, range_bytes=range_bytes, document_buckets=document_buckets))
    return prepared(config, goal, each)


def queries_in(goal: Path) -> list[Query]:
    """The rows of all parts, one part after the other."""
    table = pl.read_parquet(sorted(goal.glob("part-*.parquet")))
    names = ("doc_id", "text", "score", "rank")
    return [
        (row["query_id"], row["query"], [tuple(each[name] for name in names) for each in row["candidates"]])
        for row in table.iter_rows(named=True)
    ]


def contents(goal: Path) -> dict[str, bytes]:
    """The bytes of the parts and of the list of what is missing."""
    return {path.name: path.read_bytes() for path in sorted(goal.glob("*.parquet"))}


def score(config: JobConfig, *, limits: RequestLimits | None = None) -> RunReport:
    """Make the input of a job ready and score it with the oracle, in this process."""
    look = look_at_input(config)
    if (making := making_of(config, look)) is not None:
        making.check_places()
        making.run(in_this_process)
    plan = plan_of(config, look, ready_input(config, look))
    return run_job(Job(config, HashBackend(), limits or RequestLimits(), plan), inline_engine)
