"""Rows of pairs in any order, grouped by query: each row as it was, those of a query in the order of the files."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from references import score, write_lines

from reranker_batch import JobConfig
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.job.processes import in_this_process
from reranker_batch.preparing.joining.rows import input_of, rows_record
from reranker_batch.preparing.preparation import Preparation
from reranker_batch.preparing.record import PreparedFolder, RowCounts
from reranker_batch.preparing.table.source import pairs_source
from reranker_batch.storage.files.filesystem import Folder

Row = dict[str, Any]


def rows_of(num_queries: int, seed: int = 1) -> list[Row]:
    """By query, each with its candidates in the order of their scores."""
    chance = random.Random(seed)
    return [
        {
            "query_id": f"q{query:02}",
            "query": f"query {query}",
            "doc_id": f"d{at}",
            "text": f"text {at}",
            "bm25": 9.0 - at,
        }
        for query in range(num_queries)
        for at in range(chance.randint(1, 6))
    ]


def shuffled(rows: list[Row]) -> list[Row]:
    """The queries mixed; the rows of each in their order."""
    chance = random.Random(2)
    keys = sorted((row["query_id"] or row["query"], chance.random()) for row in rows)
    places = sorted(range(len(rows)), key=lambda at: keys[at][1])
    waiting = {key: iter([row for row in rows if (row["query_id"] or row["query"]) == key]) for key, _ in keys}
    return [next(waiting[keys[at][0]]) for at in places]


def job(folder: Path, name: str, *, prepare: Row | None = None, **more: Any) -> JobConfig:
    source: Row = {"columns": {"passthrough": ["bm25"]}, **more}
    if prepare is None:
        source |= {"path": str(folder / f"{name}.jsonl"), "layout": "pairs"}
    return JobConfig.of(
        {
            "input": source,
            "prepare": {} if prepare is None else {"run": str(folder / f"{name}.jsonl"), **prepare},
            "model": {"name": "builtin:mini", "device": "cpu"},
            "output": {"path": str(folder / f"{name}-out"), "max_failed": "100%"},
        }
    )


def scored(folder: Path) -> list[Row]:
    return pl.read_parquet(folder / "scores" / "*.parquet").to_dicts()


def letters(folder: Path) -> list[tuple[Any, ...]]:
    files = sorted((folder / "dead_letters").glob("*.parquet"))
    columns = ["query_id", "doc_id", "index", "reason_code"]
    return pl.read_parquet(files).select(columns).rows() if files else []


def counts_of(config: JobConfig) -> RowCounts:
    record = PreparedFolder(Folder.at(config.input.path)).read()
    assert record is not None
    assert record.counts is not None
    return record.counts


@pytest.mark.parametrize("is_odd", [False, True], ids=["plain", "texts differ"])
def test_the_result_is_that_of_rows_in_order(tmp_path: Path, is_odd: bool) -> None:
    rows = rows_of(12)
    if is_odd:
        rows[4] = rows[4] | {"query": "another text"}
        rows[9] = rows[9] | {"query": None}
        rows[12] = rows[12] | {"text": None}
    write_lines(tmp_path / "sorted.jsonl", rows)
    write_lines(tmp_path / "mixed.jsonl", shuffled(rows))
    score(job(tmp_path, "sorted"))
    config = job(tmp_path, "mixed", prepare={})
    score(config)
    assert scored(tmp_path / "mixed-out") == scored(tmp_path / "sorted-out")
    assert letters(tmp_path / "mixed-out") == letters(tmp_path / "sorted-out")
    assert len(letters(tmp_path / "mixed-out")) == (3 if is_odd else 0)
    assert counts_of(config) == RowCounts(rows=len(rows), candidates=len(rows), queries=12)
    columns = pl.read_parquet(Path(config.input.path) / "part-*.parquet").columns
    assert ("candidates" in columns) != is_odd


def test_rows_without_ids_are_grouped_by_the_text_of_the_query(tmp_path: Path) -> None:
    rows = [row | {"query_id": None} if at % 2 else row for at, row in enumerate(rows_of(5))]
    write_lines(tmp_path / "mixed.jsonl", shuffled(rows))
    config = job(tmp_path, "mixed", prepare={})
    score(config)
    table = pl.read_parquet(Path(config.input.path) / "part-*.parquet")
    keys = [(row["query_id"] is None, row["query_id"] or row["query"]) for row in table.to_dicts()]
    assert keys == sorted(set(keys))
    assert len(scored(tmp_path / "mixed-out")) == len(rows)


@pytest.mark.parametrize("range_bytes", [1, 600, 2_000])
def test_parts_follow_each_other(tmp_path: Path, range_bytes: int) -> None:
    """By query id, then those without one by the text of the query."""
    rows = [row | {"query_id": None} if at % 5 == 0 else row for at, row in enumerate(rows_of(20))]
    write_lines(tmp_path / "mixed.jsonl", shuffled(rows))
    config = job(tmp_path, "mixed", prepare={})
    making = Preparation.of(config)
    assert making is not None
    source = pairs_source(input_of(making.config, making.source))
    asked = replace(rows_record(making.config, source), range_bytes=range_bytes)
    PreparedFolder(Folder.at(making.goal)).write(asked)
    record = making.run(in_this_process)
    assert record.counts is not None
    assert (record.counts.rows, record.counts.candidates) == (len(rows), len(rows))
    parts = sorted(Path(making.goal).glob("part-*"))
    assert len(parts) == record.parts >= 2
    tables = [pl.read_parquet(part).to_dicts() for part in parts]
    keys = [(row["query_id"] is None, row["query_id"] or row["query"]) for table in tables for row in table]
    assert all(tables)
    assert keys == sorted(set(keys))


def test_depth_and_identical_ids_are_counted(tmp_path: Path) -> None:
    rows = [row | ({"doc_id": row["query_id"]} if row["doc_id"] == "d0" else {}) for row in rows_of(8)]
    write_lines(tmp_path / "mixed.jsonl", shuffled(rows))
    config = job(tmp_path, "mixed", prepare={"depth": 2, "drop_identical_ids": True})
    making = Preparation.of(config)
    assert making is not None
    making.run(in_this_process)
    counts = counts_of(config)
    assert (counts.rows, counts.accounted, counts.identical) == (len(rows), len(rows), 8)
    right = [row for row in rows if row["doc_id"] in ("d1", "d2")]
    table = pl.read_parquet(Path(config.input.path) / "part-*.parquet").explode("candidates").unnest("candidates")
    assert table.select("query_id", "query", "doc_id", "text", "bm25").to_dicts() == right


def test_rows_that_are_queries_already_are_refused(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "mixed.jsonl", [{"query_id": "q", "query": "a", "candidates": [{"doc_id": "d", "text": "b"}]}]
    )
    making = Preparation.of(replace_columns(job(tmp_path, "mixed", prepare={})))
    assert making is not None
    with pytest.raises(InputError, match=r"has a row for each query, which needs no grouping"):
        making.run(in_this_process)


def test_settings_that_such_rows_have_no_use_for_are_refused(tmp_path: Path) -> None:
    for prepare, message in (
        ({"run_format": "trec"}, "has no texts"),
        ({"run": {"path": "x", "rank": "r"}}, "keep their"),
    ):
        with pytest.raises(ConfigError, match=message):
            Preparation.of(job(tmp_path, "mixed", prepare=prepare))


def replace_columns(config: JobConfig) -> JobConfig:
    columns = config.input.columns.model_copy(update={"passthrough": []})
    return config.model_copy(update={"input": config.input.model_copy(update={"columns": columns})})
