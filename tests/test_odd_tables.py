"""Tables in memory whose columns are paths, joined texts, several lists, or rows of pairs in any order."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tables import nested_table, pairs_table, random_groups

from reranker_batch import Reranker, rerank_table
from reranker_batch.config.columns import Columns
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.input.regrouping import query_order

GROUPS = [group for group in random_groups(7, max_candidates=4, seed=11) if group[2]]


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    return Reranker.open("builtin:mini", device="cpu")


@pytest.fixture(scope="module")
def expected(reranker: Reranker) -> pl.DataFrame:
    return reranked(nested_table(GROUPS), reranker)


def reranked(table: pa.Table, reranker: Reranker, **options: Any) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(rerank_table(table, model=reranker, **options)))


def same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert_frame_equal(found, expected, rel_tol=0, abs_tol=1e-5)


def test_paths_and_joined_texts(reranker: Reranker, expected: pl.DataFrame) -> None:
    rows = [
        {
            "query": {"qid": query_id, "text": query},
            "candidates": [
                {"docid": doc_id, "doc": {"title": text[:3].strip() or None, "contents": text[3:].strip()}}
                for doc_id, text in candidates
            ],
        }
        for query_id, query, candidates in GROUPS
    ]
    found = reranked(
        pa.Table.from_pylist(rows),
        reranker,
        query="query.text",
        query_id="query.qid",
        doc_id="docid",
        document=["doc.title", "doc.contents"],
        separator="",
    )
    whole = [(q, text, [(d, t[:3].strip() + t[3:].strip()) for d, t in c]) for q, text, c in GROUPS]
    same(found, reranked(nested_table(whole), reranker))
    assert found["doc_id"].sort().equals(expected["doc_id"].sort())


def test_several_lists_come_one_after_the_other_with_their_names(reranker: Reranker, expected: pl.DataFrame) -> None:
    lists = nested_table(GROUPS).to_pylist()
    split = [{**row, "good": row["candidates"][:1], "bad": row["candidates"][1:]} for row in lists]
    found = reranked(pa.Table.from_pylist(split), reranker, candidates=("good", "bad"))
    same(found.drop("list"), expected)
    assert set(found.filter(pl.col("index") == 0)["list"]) == {"good"}
    assert set(found.filter(pl.col("index") > 0)["list"]) == {"bad"}


@pytest.mark.parametrize("columns", ["all", "without ids", "some ids"])
def test_pairs_in_any_order_give_what_sorted_pairs_give(reranker: Reranker, columns: str) -> None:
    rows = pairs_table(GROUPS).to_pylist()
    if columns == "without ids":
        rows = [{"query": row["query"] + row["query_id"], "text": row["text"]} for row in rows]
    if columns == "some ids":
        rows = [{**row, "doc_id": None if at % 3 else row["doc_id"]} for at, row in enumerate(rows)]
    dealt = [row for start in range(3) for row in rows[start::3]]
    found = reranked(pa.Table.from_pylist(dealt), reranker, layout="pairs", output_layout="nested", passthrough=[])
    rows_of = [(row["query_id"], row["row"]) for row in found.iter_rows(named=True)]
    firsts: dict[str, int] = {}
    for at, row in enumerate(dealt):
        firsts.setdefault(row["query"], at)
    assert [row for _, row in rows_of] == sorted(firsts.values())
    order = {at: dealt.index(row) for at, row in enumerate(rows)}
    flat = found.explode("results").unnest("results", separator=".")
    straight = reranked(pa.Table.from_pylist(rows), reranker, layout="pairs")
    assert sorted(flat["results.logit"].to_list()) == pytest.approx(sorted(straight["logit"].to_list()), abs=1e-5)
    named = {doc_id for doc_id in flat["results.doc_id"] if not doc_id.startswith("table#")}
    assert named == {row["doc_id"] for row in rows if row.get("doc_id")}
    made = {doc_id for doc_id in flat["results.doc_id"] if doc_id.startswith("table#")}
    assert {int(doc_id.partition("#")[2].partition("/")[0]) for doc_id in made} <= set(order.values())
    assert len(made) == len(rows) - len(named)


@pytest.mark.parametrize("index", [["query_id"], ["query_id", "doc_id"]], ids=str)
def test_an_index_with_a_name_is_a_column(reranker: Reranker, expected: pl.DataFrame, index: list[str]) -> None:
    frame = pairs_table(GROUPS).to_pandas()
    found = rerank_table(frame.set_index(index), model=reranker, layout="pairs")
    same(pl.from_pandas(found), expected)
    same(pl.from_pandas(rerank_table(frame.set_index(index, drop=False), model=reranker, layout="pairs")), expected)


def test_a_column_that_arrow_has_no_type_for_may_be_there_if_nobody_needs_it(
    reranker: Reranker, expected: pl.DataFrame
) -> None:
    frame = pairs_table(GROUPS).to_pandas()
    frame["mixed"] = [object() if at % 2 else 1 for at in range(len(frame))]
    same(pl.from_pandas(rerank_table(frame, model=reranker, layout="pairs")), expected)
    with pytest.raises(InputError, match=r"cannot be read as Arrow.*column mixed"):
        rerank_table(frame, model=reranker, layout="pairs", passthrough=["mixed"])


def test_dead_letters_of_pairs_in_any_order_name_their_own_row(
    reranker: Reranker, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.table({"query_id": ["a", "b", "a"], "query": ["x", "y", "x"], "text": ["1", "2", None]})
    with caplog.at_level(logging.WARNING):
        found = reranked(table, reranker, layout="pairs")
    assert found["query_id"].to_list() == ["a", "b"]
    assert "Not scored: 1 null_document. The first is at row 2 of the table" in caplog.text


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
def test_rows_come_together_by_id_and_else_stay_in_order(ids: list[str | None]) -> None:
    table = pa.table({"query_id": pa.array(ids, pa.large_string()), "query": pa.array(["t"] * len(ids))})
    order = query_order(table, Columns())
    places = list(range(len(ids))) if order is None else order.tolist()
    assert sorted(places) == list(range(len(ids)))
    for key in ("a", "b", "c"):
        of_key = [at for at in places if ids[at] == key]
        assert of_key == sorted(of_key)
        seen = [position for position, at in enumerate(places) if ids[at] == key]
        assert seen == list(range(min(seen, default=0), min(seen, default=0) + len(seen)))
    firsts = [places.index(ids.index(key)) for key in dict.fromkeys(ids) if key is not None]
    assert firsts == sorted(firsts)
    assert (order is None) == (np.arange(len(ids)).tolist() == places)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"query": "query.text"}, InputError, "'query.text' is missing in table"),
        ({"document": ["title", "text"]}, InputError, "'title' is missing in the candidates in table"),
        ({"candidates": ["candidates", "more"]}, InputError, "'more' is missing in table"),
        ({"candidates": []}, ConfigError, "candidates"),
        ({"replicas": 2}, ConfigError, "replicas=2 is for a Ray Dataset"),
    ],
)
def test_columns_that_are_not_there_are_named(reranker: Reranker, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        rerank_table(nested_table(GROUPS), model=reranker, **options)
