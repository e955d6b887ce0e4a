"""Raw rows of every shape become the same nested rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.config import ColumnsConfig
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.preparing.table.adapter import RowPlaces, adapt, joined_texts
from reranker_batch.preparing.table.adaption import Adaption, Resolver, find, refuse_taken, shown_columns
from reranker_batch.storage.tables.json_columns import json_table


def resolved(table: pa.Table, layout: str = "nested", *, is_open: bool = True, **columns: Any) -> Adaption:
    return Resolver(table.schema, ColumnsConfig.model_validate(columns), "in.jsonl", is_open=is_open).adaption(layout)


def adapted(rows: Sequence[Any], layout: str = "nested", **columns: Any) -> list[dict[str, Any]]:
    table = json_table(list(rows), ())
    places = RowPlaces("in.jsonl", np.arange(len(rows), dtype=np.int64))
    found: list[dict[str, Any]] = adapt(table, resolved(table, layout, **columns), places).to_pylist()
    return found


def test_structs_with_paths_and_a_query_that_is_an_object() -> None:
    rows = [
        {"query": {"text": "q", "qid": 7}, "candidates": [{"docid": "d", "score": 1.5, "doc": {"contents": "c"}}]},
        {"query": {"text": None, "qid": None}, "candidates": [{"docid": None, "doc": {"contents": None}}, None]},
        {"query": None, "candidates": None},
    ]
    columns: dict[str, Any] = {
        "query": "query.text",
        "query_id": "query.qid",
        "doc_id": "docid",
        "document": "doc.contents",
    }
    assert adapted(rows, **columns, passthrough=["score"]) == [
        {"query_id": "7", "query": "q", "candidates": [{"doc_id": "d", "text": "c", "score": 1.5}]},
        {
            "query_id": "in.jsonl#1",
            "query": None,
            "candidates": [
                {"doc_id": "in.jsonl#1/0", "text": None, "score": None},
                {"doc_id": "in.jsonl#1/1", "text": None, "score": None},
            ],
        },
        {"query_id": "in.jsonl#2", "query": None, "candidates": None},
    ]


def test_a_name_with_a_dot_that_is_there_wins_over_a_path() -> None:
    rows = [{"query": "q", "candidates": [{"doc.contents": "name", "doc": {"contents": "path"}}]}]
    assert adapted(rows, document="doc.contents")[0]["candidates"][0]["text"] == "name"
    schema = pa.schema([("a.b", pa.struct([("c", pa.string())])), ("a", pa.struct([("b.c", pa.string())]))])
    assert find(schema, "a.b.c") == ("a", "b.c")
    assert find(schema, "a.c") is None


def test_titles_and_texts_are_joined() -> None:
    texts = [("T", "x"), (None, "x"), ("T", None), ("", " x "), (None, None), ("", ""), ("", None), (" T", "\u3000x\n")]
    rows = [{"query": "q", "candidates": [{"title": title, "text": text} for title, text in texts]}]
    found = [one["text"] for one in adapted(rows, document=["title", "text"])[0]["candidates"]]
    assert found == ["T x", "x", "T", "x", None, "", "", "T \u3000x"]
    piped = adapted([{"query": "q", "title": "T", "text": "x"}], "pairs", document=["title", "text"], separator=" | ")
    assert piped == [{"query": "q", "text": "T | x", "query_id": None, "doc_id": None}]


def test_joined_texts_keep_bytes_that_are_not_utf_8() -> None:
    raw = pa.array([b"a\xff ", b" b "], pa.large_binary()).view(pa.large_string())
    joined = joined_texts([pa.array(["t", None], pa.large_string()), raw], " ")
    assert joined.cast(pa.large_binary()).to_pylist() == [b"t a\xff ", b"b"]


def test_several_lists_of_structs_with_other_fields() -> None:
    rows = [
        {
            "query_id": "q",
            "query": "q",
            "positive_passages": [{"docid": "p", "title": "T", "text": "x"}],
            "negative_passages": [{"docid": "n", "text": "y", "level": 2}],
        },
        {"query_id": "r", "query": "r", "positive_passages": [], "negative_passages": None},
        {"query_id": "s", "query": "s", "positive_passages": None, "negative_passages": None},
    ]
    columns: dict[str, Any] = {"candidates": ["positive_passages", "negative_passages"], "doc_id": "docid"}
    found = adapted(rows, **columns, document=["title", "text"], passthrough=["level"])
    assert found[0]["candidates"] == [
        {"doc_id": "p", "text": "T x", "level": None, "list": "positive_passages"},
        {"doc_id": "n", "text": "y", "level": 2, "list": "negative_passages"},
    ]
    assert [row["candidates"] for row in found[1:]] == [[], None]


def test_texts_of_lists_and_of_columns() -> None:
    lists = [{"query": "q", "pos": ["a"], "neg": ["b", None]}, {"query": "q", "pos": [], "neg": None}]
    found = adapted(lists, candidates=["pos", "neg"])
    assert [(one["doc_id"], one["text"], one["list"]) for one in found[0]["candidates"]] == [
        ("in.jsonl#0/0", "a", "pos"),
        ("in.jsonl#0/1", "b", "neg"),
        ("in.jsonl#0/2", None, "neg"),
    ]
    assert found[1]["candidates"] == []
    columns = [{"anchor": "q", "positive": "a", "negative_1": None, "negative_2": ""}, {"anchor": "q", "positive": "c"}]
    found = adapted(columns, query="anchor", candidates=["positive", "negative_1", "negative_2"])
    assert [[(one["text"], one["list"]) for one in row["candidates"]] for row in found] == [
        [("a", "positive"), ("", "negative_2")],
        [("c", "positive")],
    ]


def test_a_list_of_ids_beside_a_list_of_texts_stays_one() -> None:
    rows = [
        {"query": "q", "docs": ["a", "b"], "ids": [1, 2]},
        {"query": "q", "docs": ["a"], "ids": []},
        {"query": "q", "docs": ["a"], "ids": None},
    ]
    found = adapted(rows, candidates="docs", doc_id="ids")
    assert [(row["candidates"], row["doc_id"]) for row in found] == [
        (["a", "b"], ["1", "2"]),
        (["a"], []),
        (["a"], None),
    ]


def test_a_passthrough_field_with_the_name_of_the_text_stays_what_it_is() -> None:
    rows = [{"query": "q", "text": "of the row", "candidates": [{"title": "T", "body": "x"}]}]
    [row] = adapted(rows, document=["title", "body"], passthrough=["text", "title", "query"])
    assert row["text"] == "of the row"
    assert row["candidates"] == [{"doc_id": "in.jsonl#0/0", "document": "T x", "title": "T"}]


def test_ids_of_any_kind_become_text() -> None:
    table = pa.table({"query_id": [1.0, None], "query": ["q", "r"], "doc_id": [True, False], "text": ["a", "b"]})
    adaption = resolved(table, "pairs", is_open=False)
    found = adapt(table, adaption, RowPlaces("f", np.arange(2, dtype=np.int64))).to_pylist()
    assert [(row["query_id"], row["doc_id"]) for row in found] == [("1", "true"), (None, "false")]


GROUPS = st.lists(
    st.fixed_dictionaries(
        {"query": st.just("q")},
        optional={
            name: st.none() | st.lists(st.none() | st.text("ab", max_size=2), max_size=3) for name in ("x", "y", "z")
        },
    ),
    min_size=1,
    max_size=6,
)


@given(rows=GROUPS)
def test_lists_are_joined_row_by_row_in_their_order(rows: list[dict[str, Any]]) -> None:
    table = json_table([{"query": "q", "x": [""], "y": [""], "z": [""]}, *rows], ())
    adaption = resolved(table, candidates=["z", "x", "y"])
    places = RowPlaces("f", np.arange(len(table), dtype=np.int64) + 7)
    found = adapt(table, adaption, places).to_pylist()[1:]
    for number, (row, got) in enumerate(zip(rows, found, strict=True), start=8):
        expected = [(text, name) for name in ("z", "x", "y") for text in row.get(name) or ()]
        assert [(one["text"], one["list"]) for one in got["candidates"] or ()] == expected
        assert [one["doc_id"] for one in got["candidates"] or ()] == [f"f#{number}/{at}" for at in range(len(expected))]
        assert (got["candidates"] is None) == all(row.get(name) is None for name in ("x", "y", "z"))


ONE = {"query": "q", "candidates": [{"text": "x", "n": 1}], "number": 3, "texts": ["a"], "meta": {"a": "b"}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"query": "question"},
            "'question' is missing in in.jsonl; found: query, candidates.text, n., number, texts..",
        ),
        ({"query": "number"}, "'number' of in.jsonl is int64, text is expected. Set input.columns.query"),
        ({"query": "meta"}, "'meta' of in.jsonl is an object with a, text is expected"),
        (
            {"document": "body"},
            "'body' is missing in the candidates in in.jsonl; found: text, n. Set input.columns.doc",
        ),
        ({"document": ["text", "n"]}, "'n' of the candidates is int64, text is expected"),
        ({"candidates": "number"}, "'number' in in.jsonl is int64, a list of structs or of texts is expected"),
        ({"candidates": ["query", "number"]}, "'number' in in.jsonl is int64"),
        ({"candidates": "query"}, "'query' in in.jsonl is large_string, .* or input.layout: pairs"),
        (
            {"candidates": "texts", "doc_id": "number"},
            "'number' in in.jsonl is int64, a list of ids for the list of tex",
        ),
        ({"candidates": ["texts", "query"], "doc_id": "texts"}, "several lists of texts cannot have one list of ids"),
        ({"query_id": "qid"}, "'qid' is missing in in.jsonl"),
        ({"passthrough": ["nothing"]}, "'nothing' is missing in in.jsonl"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolved(json_table([ONE], ()), **columns)


def test_a_passthrough_that_two_columns_have_is_refused() -> None:
    table = json_table([{"query": "q", "n": 1, "candidates": [{"text": "x", "n": 1}]}], ())
    with pytest.raises(InputError, match="'n' is a column and a field of the candidates"):
        resolved(table, passthrough=["n"])
    with pytest.raises(ConfigError, match="candidates is the name of a column that the converted table has itself"):
        refuse_taken(ColumnsConfig(passthrough=["candidates"]))


def test_values_that_are_not_what_the_first_were_are_named() -> None:
    adaption = resolved(json_table([ONE], ()), query_id="number", passthrough=["n"])
    places = RowPlaces("b.jsonl", np.arange(1, dtype=np.int64))
    for row, message in [
        ({**ONE, "query": 3}, "'query' in b.jsonl is int64, text is expected"),
        ({**ONE, "candidates": "x"}, "'candidates' in b.jsonl is large_string, a list of structs"),
        ({**ONE, "candidates": [3]}, "'candidates' in b.jsonl is large_list<.*>, a list of structs"),
        ({**ONE, "candidates": [{"text": 3}]}, "'text' in b.jsonl is int64, text is expected"),
        ({**ONE, "number": [3]}, "'query_id' in b.jsonl is large_list<.*>, one value is expected"),
    ]:
        with pytest.raises(InputError, match=message):
            adapt(json_table([row], ()), adaption, places)
    path = resolved(json_table([ONE], ()), query="meta.a")
    with pytest.raises(InputError, match="'meta' in b.jsonl is large_string, an object with 'a' is expected"):
        adapt(json_table([{**ONE, "meta": "text"}], ()), path, places)


def test_lists_whose_fields_have_no_type_in_common_are_refused() -> None:
    row = {"query": "q", "x": [{"text": "a", "n": 1}], "y": [{"text": "a", "n": "one"}]}
    table = json_table([row], ())
    with pytest.raises(InputError, match="'n' of the candidates in f is of several types: int64, large_string"):
        adapt(table, resolved(table, candidates=["x", "y"], passthrough=["n"]), RowPlaces("f", np.zeros(1, np.int64)))


def test_a_column_that_one_file_lacks_is_null_in_json_and_refused_elsewhere() -> None:
    table = pa.table({"query": ["q"], "text": ["x"]})
    places = RowPlaces("b.tsv", np.zeros(1, dtype=np.int64))
    assert adapt(table.drop(["text"]), resolved(table, "pairs"), places)["text"].to_pylist() == [None]
    with pytest.raises(InputError, match="Column 'text' is missing in b.tsv, and other files have it; found: query"):
        adapt(table.drop(["text"]), resolved(table, "pairs", is_open=False), places)


def test_what_is_read_is_what_is_needed() -> None:
    table = json_table([{**ONE, "candidates": [{"text": "x", "doc": {"id": 1}}]}], ())
    adaption = resolved(table, query_id="meta.a", doc_id="doc.id", passthrough=["number"])
    assert adaption.wanted == ["candidates", "meta", "number", "query"]
    assert adaption.ids == ["meta.a", "candidates.doc.id"]
    assert not adaption.is_plain
    assert resolved(table, query_id=None, doc_id=None).is_plain
    assert shown_columns(table.schema) == "query, candidates[text, doc{id}], number, texts[], meta{a}"


BLANKS_AND_LETTERS = st.none() | st.text(" \t\n\r\x0b\x0c\x85\u00a0\u2003\u3000ab", max_size=4)


@given(
    rows=st.lists(st.tuples(*[BLANKS_AND_LETTERS] * 3), min_size=1, max_size=8),
    separator=st.sampled_from([" ", "", "|"]),
)
def test_joining_is_what_python_does(rows: list[tuple[str | None, ...]], separator: str) -> None:
    columns = [pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)]
    expected = [
        None if all(text is None for text in row) else separator.join(text for text in row if text).strip()
        for row in rows
    ]
    assert joined_texts(columns, separator).to_pylist() == expected
