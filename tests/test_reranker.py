"""One model in memory: a query with its documents, pairs, and whole tables, with the scores of a job."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from engine import NAN, NanScorer
from oracle import ByteEncoder
from polars.testing import assert_frame_equal
from sentence_transformers import CrossEncoder
from tables import Group, nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig, Reranker, rerank_table
from reranker_batch.errors import ConfigError, InputError, ModelError, RowError
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine

DEMO = Path(__file__).parents[1] / "reranker_batch" / "builtin" / "demo.parquet"
MINI = Path(__file__).parents[1] / "reranker_batch" / "builtin" / "mini"
QUERY = "How do I read a file line by line?"
DOCUMENTS = [
    "The random module generates pseudo-random numbers.",
    "For reading lines from a file, you can loop over the file object.",
    "",
    "The random module generates pseudo-random numbers.",
]


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    return Reranker.open("builtin:mini", device="cpu")


@pytest.fixture(scope="module")
def short() -> Reranker:
    return Reranker.open("builtin:mini", device="cpu", limits={"max_pair_tokens": 64}, max_batch_tokens=64)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Queries of the demo with a null query, a query without candidates, equal, empty and null documents."""
    rows = pq.read_table(DEMO).slice(0, 4).to_pylist()
    for row in rows:
        row["candidates"] = row["candidates"][:7]
        row["lang"] = "en"
    rows[0]["candidates"][2]["text"] = rows[0]["candidates"][4]["text"]
    rows[1]["candidates"][1]["text"] = None
    rows[1]["candidates"][3]["text"] = ""
    empty = {**rows[0], "query_id": "empty", "candidates": []}
    null = {**rows[0], "query_id": "null", "query": None, "candidates": rows[0]["candidates"][:2]}
    return pa.Table.from_pylist([*rows, empty, null])


def one_row_a_pair(table: pa.Table) -> pa.Table:
    queries = pl.DataFrame(pl.from_arrow(table))
    return queries.explode("candidates", empty_as_null=False, keep_nulls=False).unnest("candidates").to_arrow()


def job_output(table: pa.Table, folder: Path, values: dict[str, dict[str, Any]]) -> pl.DataFrame:
    config = {
        "input": {"path": str(write(table, folder / "in.parquet")), **values["input"]},
        "model": {"name": "builtin:mini", "device": "cpu", "precision_sample": 0},
        "limits": {"profile": "none", "max_pair_tokens": 64},
        "ranking": values["ranking"],
        "output": {"path": str(folder / "out"), "max_failed": "100%", **values["output"]},
    }
    run_job(open_job(JobConfig.of(config)), inline_engine)
    return pl.read_parquet(folder / "out" / "scores" / "*.parquet")


@pytest.mark.parametrize(("layout", "output_layout", "top_n"), [("nested", "pairs", 3), ("pairs", "nested", None)])
def test_a_table_has_the_rows_of_the_job(
    short: Reranker, table: pa.Table, tmp_path: Path, layout: Any, output_layout: Any, top_n: int | None
) -> None:
    given = table if layout == "nested" else one_row_a_pair(table)
    passthrough = ["lang", "retrieval_rank"]
    values = {
        "input": {"layout": layout, "columns": {"passthrough": passthrough}},
        "ranking": {"top_n": top_n, "return_documents": True},
        "output": {"layout": output_layout},
    }
    expected = job_output(given, tmp_path, values)
    found = rerank_table(
        pl.DataFrame(pl.from_arrow(given)),
        model=short,
        layout=layout,
        top_n=top_n,
        output_layout=output_layout,
        passthrough=passthrough,
        return_documents=True,
    )
    assert len(expected) > 4
    if output_layout == "nested":
        assert set(found["file"]) == {"table"}
        expected = expected.with_columns(file=pl.lit("table"))
    assert_frame_equal(found, expected, rel_tol=0, abs_tol=1e-5)


def test_scores_are_those_of_sentence_transformers(reranker: Reranker, table: pa.Table) -> None:
    rows = one_row_a_pair(table).slice(0, 14).to_pylist()
    pairs = [(row["query"], row["text"]) for row in rows if row["text"] is not None]
    theirs = CrossEncoder(str(MINI), device="cpu", model_kwargs={"dtype": torch.float32}).predict(
        pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False
    )
    logits = reranker.score(pairs)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-5)
    expected = 1 / (1 + np.exp(-theirs.astype(np.float64)))
    np.testing.assert_allclose(reranker.relevance(logits), expected, rtol=0, atol=1e-5)


def test_results_come_by_rank_and_equal_documents_by_index(reranker: Reranker) -> None:
    results = reranker.rerank(QUERY, DOCUMENTS)
    assert results[0].index == 1
    assert [result.rank for result in results] == [1, 2, 3, 4]
    assert [result.document for result in results] == [DOCUMENTS[result.index] for result in results]
    places = [result.index for result in results]
    assert places.index(3) == places.index(0) + 1
    logits = reranker.score((QUERY, document) for document in DOCUMENTS)
    np.testing.assert_allclose([result.logit for result in results], logits[places], rtol=0, atol=1e-5)
    scores = reranker.relevance(np.array([result.logit for result in results]))
    np.testing.assert_array_equal(np.array([result.relevance_score for result in results], np.float32), scores)
    assert reranker.rerank(QUERY, iter(DOCUMENTS), top_n=2) == results[:2]
    assert reranker.rerank(QUERY, DOCUMENTS, top_n=np.int64(9)) == results  # type: ignore[arg-type]


def test_what_is_cut_by_a_limit_says_so(short: Reranker) -> None:
    results = short.rerank("lines", ["a file", "line " * 80])
    assert {result.index: result.truncated for result in results} == {0: False, 1: True}


def test_nothing_gives_nothing(reranker: Reranker, table: pa.Table) -> None:
    assert reranker.rerank(QUERY, []) == []
    assert reranker.score([]).shape == (0,)
    full = rerank_table(table, model=reranker)
    for empty in (rerank_table(table.slice(0, 0), model=reranker), rerank_table(table.slice(4, 1), model=reranker)):
        assert (len(empty), empty.schema) == (0, full.schema)
    nested = rerank_table(table.slice(4, 1), model=reranker, output_layout="nested")
    assert nested.select(["query_id", "results"]).to_pylist() == [{"query_id": "empty", "results": []}]


AS: dict[str, Callable[[pa.Table], Any]] = {
    "polars": pl.from_arrow,
    "pandas": pa.Table.to_pandas,
    "arrow in chunks": lambda table: pa.concat_tables([table.slice(0, 3), table.slice(3)]),
    "dictionaries": lambda table: table.set_column(
        table.schema.get_field_index("query"), "query", table["query"].dictionary_encode()
    ),
}


@pytest.mark.parametrize("kind", AS)
@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_the_result_is_of_the_kind_of_the_table(reranker: Reranker, table: pa.Table, kind: str, layout: Any) -> None:
    given = table if layout == "nested" else one_row_a_pair(table)
    frame = AS[kind](given)
    options: dict[str, Any] = {"model": reranker, "layout": layout, "passthrough": ["lang"]}
    found = rerank_table(frame, **options)
    assert type(found) is type(frame)
    expected = rerank_table(given, **options)
    as_arrow = found if isinstance(found, pa.Table) else pa.table(found)
    assert as_arrow.to_pylist() == expected.to_pylist()


def test_ids_that_are_missing_are_made_of_the_place(reranker: Reranker) -> None:
    frame = pl.DataFrame({"query": ["a", "b"], "candidates": [["x", "y"], ["z"]]})
    found = rerank_table(frame, model=reranker).sort("query_id", "index")
    assert found["query_id"].to_list() == ["table#0", "table#0", "table#1"]
    assert found["doc_id"].to_list() == ["table#0/0", "table#0/1", "table#1/0"]


def with_null() -> pa.Table:
    groups: list[Group] = [("q0", "a", [("d0", "x"), ("d1", "y")]), ("q1", "b", [("d2", "z")])]
    return pairs_table(groups).set_column(3, "text", pa.array(["x", None, "z"]))


def test_candidates_without_a_score_are_counted(reranker: Reranker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = rerank_table(with_null(), model=reranker, layout="pairs")
    assert found["doc_id"].to_pylist() == ["d0", "d2"]
    assert "Not scored: 1 null_document. The first is at row 1 of the table: The document is null." in caplog.text
    with pytest.raises(RowError, match="1 null_document") as caught:
        rerank_table(with_null(), model=reranker, layout="pairs", on_failed="raise")
    assert caught.value.reason_code == "null_document"


@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_a_column_of_nulls_has_no_scores(reranker: Reranker, layout: Any) -> None:
    given = nested_table([("q", "a", [("d", "x")])]) if layout == "nested" else with_null()
    nulls = given.set_column(1, "query", pa.nulls(len(given)))
    found = rerank_table(nulls, model=reranker, layout=layout, output_layout="nested")
    assert set(found["code"].to_pylist()) == {"null_query"}
    assert found["results"].to_pylist() == [[]] * len(found)


def test_a_score_that_is_no_number_is_an_error(reranker: Reranker) -> None:
    failing = replace(reranker, encoder=ByteEncoder(), scorer=NanScorer())
    with pytest.raises(RowError, match=r"documents\[1\] cannot be scored. The model gave nan") as caught:
        failing.rerank("q", ["good", f"bad {NAN}"])
    assert caught.value.reason_code == "non_finite_score"
    with pytest.raises(RowError, match=r"pairs\[2\] cannot be scored"):
        failing.score([("q", "a"), ("q", "b"), ("p", NAN)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, ["a"]), "query is None"),
        ((QUERY, ["a", None]), r"documents\[1\] is None"),
        ((QUERY, ["a", 3]), r"documents\[1\] is int"),
        ((QUERY, ["a", {"text": "b"}]), r"documents\[1\] is dict"),
        ((QUERY, None), "documents is NoneType"),
        ((QUERY, "a text"), "documents is str"),
        ((QUERY, ["a", "\ud800"]), r"documents\[1\] is not valid text"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(reranker: Reranker, arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reranker.rerank(*arguments)


@pytest.mark.parametrize("pair", [None, "ab", ("a",), ("a", None), (None, "b"), ("a", "b", "c")])
def test_what_is_no_pair_is_named_by_its_place(reranker: Reranker, pair: Any) -> None:
    with pytest.raises(ConfigError, match=r"pairs\[1\]"):
        reranker.score([("a", "b"), pair])


@pytest.mark.parametrize("values", [None, 3, "text", {"a", "b"}, {"a": "b"}])
def test_what_has_no_order_is_no_list(reranker: Reranker, values: Any) -> None:
    with pytest.raises(ConfigError, match=f"documents is {type(values).__name__}, a list of texts is expected"):
        reranker.rerank(QUERY, values)
    with pytest.raises(ConfigError, match=f"pairs is {type(values).__name__}, a list of pairs is expected"):
        reranker.score(values)
    with pytest.raises(ConfigError, match=r"pairs\[0\] is not a pair"):
        reranker.score([values])
    assert len(reranker.rerank(QUERY, {"a": 1, "b": 2}.keys())) == 2


@pytest.mark.parametrize("top_n", [0, -1, 1.5, True, "3"])
def test_top_n_is_a_positive_number(reranker: Reranker, top_n: Any) -> None:
    with pytest.raises(ConfigError, match="top_n="):
        reranker.rerank(QUERY, DOCUMENTS, top_n=top_n)
    with pytest.raises(ConfigError, match="top_n="):
        rerank_table(with_null(), model=reranker, layout="pairs", top_n=top_n)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"limits": "unknown"}, ConfigError, "limits.profile='unknown' is not known"),
        ({"limits": None}, ConfigError, "profile"),
        ({"limits": {"max_pair_token": 3}}, ConfigError, "max_pair_tokens"),
        ({"limits": {"max_pair_tokens": 4}}, ConfigError, "leaves no token for a document"),
        ({"dtype": "float64"}, ConfigError, "dtype"),
        ({"max_batch_tokens": 64}, ConfigError, "max_batch_tokens=64 is below"),
        ({"max_batch_tokens": 0}, ConfigError, "max_batch_tokens"),
        ({"recipe": "unknown"}, (ConfigError, ModelError), "unknown"),
    ],
)
def test_a_reranker_refuses_what_a_job_refuses(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Reranker.open("builtin:mini", device="cpu", **options)


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        Reranker.open("builtin:no-such-model")


@pytest.mark.parametrize(
    ("frame", "options", "error", "message"),
    [
        ([{"query": "a"}], {}, ConfigError, "list is no table"),
        (pl.LazyFrame({"query": ["a"]}), {}, ConfigError, r"\.collect\(\)"),
        (pl.DataFrame({"query": ["a"]}), {}, InputError, "'candidates' is missing in table"),
        (with_null(), {"layout": "lists"}, ConfigError, "layout"),
        (with_null(), {"layout": "pairs", "output_layout": "lists"}, ConfigError, "output_layout"),
        (with_null(), {"layout": "pairs", "on_failed": "skip"}, ConfigError, "on_failed='skip'"),
        (with_null(), {"layout": "pairs", "passthrough": ["lang"]}, InputError, "'lang' is missing in table"),
        (with_null(), {"layout": "pairs", "passthrough": "text"}, ConfigError, "passthrough"),
        (with_null(), {"layout": "pairs", "passthrough": ["rank"]}, ConfigError, "rank"),
        (pd.DataFrame({"query": ["a", 3], "candidates": [["b"], ["c"]]}), {}, InputError, "values of one type"),
        (pd.DataFrame([["a", "b"]], columns=["query", "query"]), {}, InputError, "a name of its own"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    reranker: Reranker, frame: Any, options: Any, error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        rerank_table(frame, model=reranker, **options)


def test_it_works_in_a_running_event_loop(reranker: Reranker) -> None:
    async def both() -> tuple[Any, Any]:
        frame = nested_table(random_groups(2, seed=1))
        there = await asyncio.to_thread(reranker.rerank, QUERY, DOCUMENTS)
        return (reranker.rerank(QUERY, DOCUMENTS), there), rerank_table(frame, model=reranker).num_rows

    (here, there), num_rows = asyncio.run(both())
    assert here == there
    assert num_rows == sum(len(group[2]) for group in random_groups(2, seed=1))


def test_threads_can_share_a_reranker(reranker: Reranker) -> None:
    expected = reranker.rerank(QUERY, DOCUMENTS)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: reranker.rerank(QUERY, DOCUMENTS), range(8))) == [expected] * 8
