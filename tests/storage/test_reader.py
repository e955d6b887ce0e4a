"""What comes out of a unit, whatever the encoding of the input."""

import datetime
import decimal
import pickle
import re
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.config import InputConfig
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.storage.input.planning import InputPlan, plan_input

TEXTS = st.one_of(st.none(), st.text(max_size=8))


def config_of(path: Path | str, layout: str = "nested", **columns: Any) -> InputConfig:
    return InputConfig.model_validate({"path": str(path), "layout": layout, "columns": columns})


def read_all(config: InputConfig, unit_pairs: int | str = "auto") -> tuple[InputPlan, list[UnitRows]]:
    plan = plan_input(config, unit_pairs=unit_pairs)  # type: ignore[arg-type]
    return plan, [plan.source.read(unit) for unit in plan.units]


def read_one(tmp_path: Path, table: pa.Table, layout: str = "nested", **columns: Any) -> UnitRows:
    pq.write_table(table, tmp_path / "f.parquet")
    _, [unit] = read_all(config_of(tmp_path / "f.parquet", layout, **columns))
    return unit


def shown(unit: UnitRows) -> dict[str, Any]:
    return {
        "queries": unit.queries.to_pylist(),
        "candidates": unit.candidates.to_pylist(),
        "dead_letters": unit.dead_letters.to_pylist(),
    }


def reasons(unit: UnitRows) -> list[tuple[int, int | None, str]]:
    return [(row["row"], row["index"], row["reason_code"]) for row in unit.dead_letters.to_pylist()]


STRUCT = pa.struct([("doc_id", pa.string()), ("text", pa.string()), ("title", pa.string())])
ROWS: list[Any] = [
    [{"doc_id": "a", "text": "x", "title": "A"}, {"doc_id": None, "text": "y", "title": None}],
    None,
    [],
    [None, {"doc_id": "c", "text": None, "title": "C"}, {"doc_id": "d", "text": "", "title": ""}],
    [{"doc_id": "e", "text": "ü", "title": "E"}],
]


def nested_table(candidates: Any = None, **more: Any) -> pa.Table:
    columns = {
        "query_id": pa.array(["q0", "q1", None, "q3", "q4"]),
        "query": pa.array(["one", "two", "three", "", None]),
        "candidates": pa.array(ROWS, pa.list_(STRUCT)) if candidates is None else candidates,
    }
    return pa.table(columns | more)


@contextmanager
def skip_what_pyarrow_cannot_write() -> Iterator[None]:
    """Older ones write no list views, among others."""
    try:
        yield
    except pa.ArrowNotImplementedError as error:
        pytest.skip(str(error))


# --- rows of a list


def test_a_nested_unit_is_taken_apart_in_order(tmp_path: Path) -> None:
    lang = pa.array(["de", None, "fr", "it", "es"]).dictionary_encode()
    unit = read_one(tmp_path, nested_table(lang=lang), passthrough=["lang", "title"])
    assert unit.queries.to_pylist() == [
        {"row": 0, "query_id": "q0", "query": "one", "lang": "de"},
        {"row": 1, "query_id": "q1", "query": "two", "lang": None},
        {"row": 2, "query_id": "f.parquet#2", "query": "three", "lang": "fr"},
        {"row": 3, "query_id": "q3", "query": "", "lang": "it"},
        {"row": 4, "query_id": "q4", "query": None, "lang": "es"},
    ]
    assert unit.candidates.to_pylist() == [
        {"query_at": 0, "row": 0, "index": 0, "doc_id": "a", "document": "x", "title": "A"},
        {"query_at": 0, "row": 0, "index": 1, "doc_id": "f.parquet#0/1", "document": "y", "title": None},
        {"query_at": 3, "row": 3, "index": 2, "doc_id": "d", "document": "", "title": ""},
    ]
    assert reasons(unit) == [(3, 0, "null_document"), (3, 1, "null_document"), (4, 0, "null_query")]
    assert unit.dead_letters["query_at"].to_pylist() == [3, 3, 4]


def test_columns_are_read_in_canonical_types(tmp_path: Path) -> None:
    unit = read_one(tmp_path, nested_table(tag=pa.array([["a"]] * 5)), passthrough=["tag", "title"])
    assert unit.queries.schema.types == [
        pa.int64(),
        pa.large_string(),
        pa.large_string(),
        pa.large_list(pa.large_string()),
    ]
    assert unit.candidates.schema.types == [pa.int64(), pa.int64(), pa.int32(), *[pa.large_string()] * 3]


def _inner(string: pa.DataType) -> pa.StructType:
    return pa.struct([("doc_id", string), ("text", string), ("title", string)])


LIST_TYPES = {
    "list": pa.list_(STRUCT),
    "large_list": pa.large_list(STRUCT),
    "list_view": pa.list_view(STRUCT),
    "large_list_view": pa.large_list_view(STRUCT),
    "large_string": pa.list_(_inner(pa.large_string())),
    "dictionary": pa.list_(_inner(pa.dictionary(pa.int8(), pa.string()))),
    "dictionary_large": pa.large_list(_inner(pa.dictionary(pa.int32(), pa.large_string()))),
}


@pytest.mark.parametrize("name", LIST_TYPES)
@pytest.mark.parametrize("row_group_size", [2, None])
@pytest.mark.parametrize("with_hint", [True, False])
def test_all_encodings_of_structs_read_alike(
    tmp_path: Path, name: str, row_group_size: int | None, with_hint: bool
) -> None:
    expected = shown(read_one(tmp_path, nested_table(), passthrough=["title"]))
    path = tmp_path / "f.parquet"
    with skip_what_pyarrow_cannot_write():
        candidates = pa.array(ROWS, LIST_TYPES[name])
        texts = pa.array(["one", "two", "three", "", None], LIST_TYPES[name].value_type.field("text").type)
        table = nested_table(candidates, query=texts, query_id=texts)
        pq.write_table(table, path, row_group_size=row_group_size, store_schema=with_hint)
    _, [unit] = read_all(config_of(path, passthrough=["title"]))
    seen = shown(unit)
    assert seen["candidates"] == expected["candidates"]
    assert seen["dead_letters"] == expected["dead_letters"]
    assert [row["query"] for row in seen["queries"]] == [row["query"] for row in expected["queries"]]
    assert [row["query_id"] for row in seen["queries"]] == ["one", "two", "three", "", "f.parquet#4"]


TEXT_LISTS: list[Any] = [["a", "b"], None, ["c", None], ["", "ü"]]
TEXT_LIST_TYPES = [
    pa.list_(pa.string()),
    pa.large_list(pa.large_string()),
    pa.list_(pa.string(), 2),
    pa.list_view(pa.string()),
    pa.large_list_view(pa.large_string()),
    pa.list_(pa.string_view()),
    pa.list_(pa.dictionary(pa.int16(), pa.string())),
]


@pytest.mark.parametrize("data_type", TEXT_LIST_TYPES, ids=str)
@pytest.mark.parametrize("with_ids", [True, False])
def test_all_encodings_of_text_lists_read_alike(tmp_path: Path, data_type: pa.DataType, with_ids: bool) -> None:
    lists = pa.array([None, *TEXT_LISTS], data_type).slice(1)
    columns = {"query": pa.array(["q"] * 4), "candidates": lists}
    if with_ids:
        columns["doc_id"] = pa.array([[1, 2], None, [3, None], [5, 6]])
    with skip_what_pyarrow_cannot_write():
        unit = read_one(tmp_path, pa.table(columns))
    ids = ["1", "2", "3", "5", "6"] if with_ids else [f"f.parquet#{at}" for at in ["0/0", "0/1", "2/0", "3/0", "3/1"]]
    assert unit.candidates["doc_id"].to_pylist() == ids
    assert unit.candidates["document"].to_pylist() == ["a", "b", "c", "", "ü"]
    assert unit.candidates["row"].to_pylist() == [0, 0, 2, 3, 3]
    assert unit.candidates["index"].to_pylist() == [0, 1, 0, 0, 1]
    assert reasons(unit) == [(2, 1, "null_document")]
    assert unit.queries["query_id"].to_pylist() == [f"f.parquet#{row}" for row in range(4)]


def test_lists_of_unequal_length_are_refused_one_reject_a_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "query": ["q"] * 6,
            "candidates": [["a", "b"], ["c", "d", "e"], [], None, ["f"], ["g"]],
            "doc_id": [["1", "2"], ["3"], ["4", "5"], ["6"], None, []],
        }
    )
    unit = read_one(tmp_path, table)
    assert unit.candidates["doc_id"].to_pylist() == ["1", "2", "f.parquet#4/0"]
    assert reasons(unit) == [
        (1, 0, "unequal_lists"),
        (1, 1, "unequal_lists"),
        (1, 2, "unequal_lists"),
        (2, None, "unequal_lists"),
        (3, None, "unequal_lists"),
        (5, 0, "unequal_lists"),
    ]
    assert unit.dead_letters["message"][0].as_py().endswith("3 texts and 1 ids.")


def test_struct_fields_may_come_in_any_order_and_be_more_or_fewer(tmp_path: Path) -> None:
    other = pa.struct([("extra", pa.int64()), ("text", pa.large_string()), ("title", pa.null())])
    swapped = [[{"extra": 1, "text": "t", "title": None}]]
    pq.write_table(nested_table(), tmp_path / "a.parquet")
    table = pa.table({"query": ["?"], "candidates": pa.array(swapped, pa.list_(other))})
    pq.write_table(table, tmp_path / "b.parquet")
    _, [unit] = read_all(config_of(tmp_path, passthrough=["title"]))
    assert unit.candidates.to_pylist()[-1:] == [
        {"query_at": 5, "row": 5, "index": 0, "doc_id": "b.parquet#0/0", "document": "t", "title": None}
    ]


def test_files_of_empty_or_untyped_lists_give_queries_without_candidates(tmp_path: Path) -> None:
    pq.write_table(nested_table(), tmp_path / "a.parquet")
    pq.write_table(nested_table(pa.nulls(5)), tmp_path / "b.parquet")
    pq.write_table(nested_table(pa.array([[], None, [], [None], []], pa.list_(pa.null()))), tmp_path / "c.parquet")
    config = config_of(tmp_path, passthrough=["title"])
    plan, [unit] = read_all(config)
    whole, untyped, empty = (plan.source.read(replace(plan.units[0], spans=(span,))) for span in plan.units[0].spans)
    assert len(untyped.queries) == len(empty.queries) == 5
    assert untyped.candidates.schema == empty.candidates.schema == whole.candidates.schema == unit.candidates.schema
    assert len(untyped.candidates) == len(empty.candidates) == 0
    assert len(unit.queries) == 15
    assert unit.candidates == whole.candidates
    assert reasons(empty) == [(3, 0, "null_document")]
    assert reasons(unit) == [*reasons(whole), (13, 0, "null_document")]


def test_only_the_needed_leaves_are_read(tmp_path: Path) -> None:
    """The page of an unneeded field is damaged, which a read would notice."""
    big = pa.struct([("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
    rows = [[{"text": "t", "embedding": [float(at)] * 500}] for at in range(100)]
    path = tmp_path / "f.parquet"
    table = pa.table({"query": ["q"] * 100, "candidates": pa.array(rows, pa.list_(big)), "blob": [b"z" * 999] * 100})
    pq.write_table(table, path, write_page_checksum=True, use_dictionary=False, compression="none")
    metadata = pq.read_metadata(path).row_group(0)
    for column in range(metadata.num_columns):
        if "embedding" in metadata.column(column).path_in_schema or metadata.column(column).path_in_schema == "blob":
            _flip(path, metadata.column(column).data_page_offset + 500)
    _, [unit] = read_all(config_of(path))
    assert len(unit.candidates) == 100


def test_names_with_dots_are_read(tmp_path: Path) -> None:
    struct = pa.struct([("a.b", pa.string()), ("a", pa.struct([("b", pa.string())]))])
    rows = [[{"a.b": "text", "a": {"b": "other"}}]]
    table = pa.table({"query.text": ["q"], "c.d": pa.array(rows, pa.list_(struct)), "query": [{"text": "other"}]})
    unit = read_one(tmp_path, table, query="query.text", candidates="c.d", document="a.b")
    assert unit.candidates["document"].to_pylist() == ["text"]
    assert unit.queries["query"].to_pylist() == ["q"]


# --- ids

UUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
AT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
IDS = [
    (pa.array(["007", "1e5", "NaN", "a/../b", " tab\t\n"]), ["007", "1e5", "NaN", "a/../b", " tab\t\n"]),
    (pa.array([1, -2, 3, 4, 2**60]), ["1", "-2", "3", "4", str(2**60)]),
    (pa.array([2**64 - 1] * 5, pa.uint64()), [str(2**64 - 1)] * 5),
    (pa.array([1.5, 0.1, 2, 3, 4]), ["1.5", "0.1", "2", "3", "4"]),
    (
        pa.array([123456789012345, 2.0**60, 1e22, 1e-7, 0]),
        ["123456789012345", str(2**60), str(10**22), "0.0000001", "0"],
    ),
    (pa.array([-0.0, np.inf, -np.inf, 1e15, 0]), ["0", "inf", "-inf", "1000000000000000", "0"]),
    (
        pa.array([1e10, 16777216, -1e12, 0.25, 0], pa.float32()),
        ["10000000000", "16777216", "-999999995904", "0.25", "0"],
    ),
    (pa.array([datetime.timedelta(seconds=1)] * 5, pa.duration("ms")), ["1000"] * 5),
    (pa.array([AT] * 5, pa.timestamp("ms", "Europe/Berlin")), ["2026-01-02 00:00:00.000Z"] * 5),
    (pa.array([True, False] * 2 + [True]), ["true", "false"] * 2 + ["true"]),
    (pa.array([decimal.Decimal("1.50")] * 5), ["1.50"] * 5),
    (pa.array([datetime.date(2026, 1, 2)] * 5), ["2026-01-02"] * 5),
    (pa.array([b"bytes", "ü".encode(), b"", b"x", b"y"]), ["bytes", "ü", "", "x", "y"]),
    (pa.array([b"\x00\xff"] * 5, pa.binary(2)), ["00ff"] * 5),
    (pa.array([UUID.bytes] * 5, pa.uuid()), [str(UUID)] * 5),
    (pa.array(["a", "b", "a", "b", "c"]).dictionary_encode(), ["a", "b", "a", "b", "c"]),
]


@pytest.mark.parametrize(("ids", "strings"), IDS, ids=[str(ids.type) for ids, _ in IDS])
@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_ids_of_any_scalar_type_become_strings(tmp_path: Path, ids: pa.Array, strings: list[str], layout: str) -> None:
    with_null = pa.concat_arrays([ids.slice(0, 4), pa.nulls(1, ids.type)])
    if layout == "nested":
        unit = read_one(tmp_path, pa.table({"query": ["q"] * 5, "query_id": with_null, "candidates": [["t"]] * 5}))
        assert unit.queries["query_id"].to_pylist() == [*strings[:4], "f.parquet#4"]
    else:
        unit = read_one(tmp_path, pa.table({"query": ["q"] * 5, "doc_id": with_null, "text": ["t"] * 5}), "pairs")
        assert unit.candidates["doc_id"].to_pylist() == [*strings[:4], "f.parquet#4/4"]


@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_ids_that_are_not_a_number_are_no_ids(tmp_path: Path, layout: str) -> None:
    ids = pa.array([1.0, np.nan, np.nan, 2.0, None])
    table = {"query_id": ids, "query": ["a", "b", "c", "d", "e"]}
    if layout == "nested":
        unit = read_one(tmp_path, pa.table({**table, "candidates": [["t"]] * 5}))
    else:
        unit = read_one(tmp_path, pa.table({**table, "doc_id": ids, "text": ["t"] * 5}), "pairs")
        assert unit.candidates["doc_id"].to_pylist() == [
            "1",
            *(f"f.parquet#{r}/0" for r in (1, 2)),
            "2",
            "f.parquet#4/0",
        ]
    assert unit.queries["query_id"].to_pylist() == ["1", "f.parquet#1", "f.parquet#2", "2", "f.parquet#4"]
    assert len(unit.dead_letters) == 0


# --- text that is no text


def invalid(values: list[bytes | None]) -> pa.Array:
    """Strings of bytes that nobody has checked."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers())


def test_invalid_utf8_refuses_the_candidate_and_no_more(tmp_path: Path) -> None:
    documents = invalid([b"good", b"\xff", "ü".encode(), b"\xed\xa0\x80", b"ok", b"ok"])
    ids = invalid([b"1", b"2", b"3", b"4", b"\xfe", b"6"])
    titles = invalid([b"1", b"2", b"3", b"4", b"5", b"\xfe"])
    struct = pa.StructArray.from_arrays([ids, documents, titles], ["doc_id", "text", "title"])
    table = pa.table({"query": ["a", "b"], "candidates": pa.ListArray.from_arrays([0, 3, 6], struct)})
    unit = read_one(tmp_path, table, passthrough=["title"])
    assert unit.candidates["document"].to_pylist() == ["good", "ü"]
    assert reasons(unit) == [(0, 1, "invalid_utf8"), *((1, at, "invalid_utf8") for at in range(3))]


@pytest.mark.parametrize("column", ["query", "query_id", "lang"])
def test_an_invalid_query_refuses_its_candidates_and_keeps_its_row(tmp_path: Path, column: str) -> None:
    columns = {name: invalid([b"a", b"b"]) for name in ["query", "query_id", "lang"]}
    columns[column] = invalid([b"a", b"\xffb"])
    unit = read_one(tmp_path, pa.table({**columns, "candidates": [["x"], ["y", "z"]]}), passthrough=["lang"])
    assert unit.candidates["document"].to_pylist() == ["x"]
    assert reasons(unit) == [(1, 0, "invalid_utf8"), (1, 1, "invalid_utf8")]
    assert unit.queries.to_pylist()[1] == {
        "row": 1,
        "query_id": "f.parquet#1" if column == "query_id" else "b",
        "query": None if column == "query" else "b",
        "lang": "\ufffdb" if column == "lang" else "b",
    }


def test_unusual_characters_survive_byte_for_byte(tmp_path: Path) -> None:
    texts = ["\x00", "\ufeffbom", "שלום", "👩‍👩‍👧", "e\u0301", "\x1b[31m", "w" * 100_000, " \n\t"]
    unit = read_one(tmp_path, pa.table({"query": ["q"], "candidates": [texts]}))
    assert unit.candidates["document"].to_pylist() == texts


# --- rows of a pair


def pairs_table(rows: list[tuple[Any, Any, Any, Any]], **more: Any) -> pa.Table:
    names = ["query_id", "query", "doc_id", "text"]
    columns = {name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate(names)}
    return pa.table(columns | more)


def test_pairs_are_grouped_in_order(tmp_path: Path) -> None:
    rows = [("a", "x", "1", "t1"), ("a", "x", None, "t2"), ("b", "y", "3", None), (None, "z", "4", "t4")]
    unit = read_one(tmp_path, pairs_table(rows, score=pa.array([1, 2, 3, 4])), "pairs", passthrough=["score"])
    assert unit.queries.to_pylist() == [
        {"row": 0, "query_id": "a", "query": "x"},
        {"row": 2, "query_id": "b", "query": "y"},
        {"row": 3, "query_id": "f.parquet#3", "query": "z"},
    ]
    assert unit.candidates.to_pylist() == [
        {"query_at": 0, "row": 0, "index": 0, "doc_id": "1", "document": "t1", "score": 1},
        {"query_at": 0, "row": 1, "index": 1, "doc_id": "f.parquet#1/1", "document": "t2", "score": 2},
        {"query_at": 2, "row": 3, "index": 0, "doc_id": "4", "document": "t4", "score": 4},
    ]
    assert reasons(unit) == [(2, 0, "null_document")]


def test_one_query_id_with_two_texts_refuses_the_rows_that_differ(tmp_path: Path) -> None:
    rows = [("a", None, "0", "t"), ("a", "x", "1", "t"), ("a", "other", "2", "t"), ("a", "x", "3", "t")]
    unit = read_one(tmp_path, pairs_table([*rows, ("b", None, "4", "t")]), "pairs")
    assert unit.candidates["doc_id"].to_pylist() == ["1", "3"]
    assert unit.queries["query"].to_pylist() == ["x", None]
    assert reasons(unit) == [(0, 0, "null_query"), (2, 2, "query_text_differs"), (4, 0, "null_query")]
    assert "Row 1 has the same query id" in unit.dead_letters["message"][1].as_py()


@pytest.mark.parametrize("string", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_all_encodings_of_pairs_read_alike(tmp_path: Path, string: pa.DataType) -> None:
    table = pairs_table([(f"q{row // 3}", f"t{row // 3}", f"d{row}", "x" * row) for row in range(20)])
    expected = shown(read_one(tmp_path, table, "pairs"))
    assert (
        shown(read_one(tmp_path, pa.table({name: table[name].cast(string) for name in table.column_names}), "pairs"))
        == expected
    )


# --- units


@st.composite
def nested_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    candidate = st.one_of(st.none(), st.fixed_dictionaries({"doc_id": TEXTS, "text": TEXTS}))
    row = st.fixed_dictionaries(
        {"query_id": TEXTS, "query": TEXTS, "candidates": st.one_of(st.none(), st.lists(candidate, max_size=5))}
    )
    return draw(st.lists(row, max_size=25))


@given(rows=nested_rows(), group=st.integers(1, 30), unit_pairs=st.integers(1, 40), files=st.integers(1, 3))
def test_nested_units_give_back_every_candidate_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], group: int, unit_pairs: int, files: int
) -> None:
    folder = tmp_path_factory.mktemp("in")
    struct = pa.struct([("doc_id", pa.string()), ("text", pa.string())])
    schema = pa.schema([("query_id", pa.string()), ("query", pa.string()), ("candidates", pa.list_(struct))])
    expected = []
    for number, part in enumerate(np.array_split(np.arange(len(rows)), files)):
        file_rows = [rows[at] for at in part]
        pq.write_table(pa.Table.from_pylist(file_rows, schema), folder / f"{number}.parquet", row_group_size=group)
        for row, values in enumerate(file_rows):
            for index, candidate in enumerate(values["candidates"] or []):
                document = None if candidate is None else candidate["text"]
                doc_id = None if candidate is None else candidate["doc_id"]
                query_id = f"{number}.parquet#{row}" if values["query_id"] is None else values["query_id"]
                if doc_id is None:
                    doc_id = f"{number}.parquet#{row}/{index}"
                expected.append((number, row, index, query_id, values["query"], doc_id, document))
    plan, units = read_all(config_of(folder), unit_pairs)
    assert plan.num_queries == len(rows)
    good, bad, queries = [], [], []
    for unit, read in zip(plan.units, units, strict=True):
        queries_read = read.queries.to_pylist()
        queries += [place_of(unit, query["row"]) for query in queries_read]
        for place in read.candidates.to_pylist():
            query = queries_read[place["query_at"]]
            assert query["row"] == place["row"]
            good.append(
                (
                    *place_of(unit, place["row"]),
                    place["index"],
                    query["query_id"],
                    query["query"],
                    place["doc_id"],
                    place["document"],
                )
            )
        bad += [
            (*place_of(unit, bad["row"]), bad["index"], bad["reason_code"]) for bad in read.dead_letters.to_pylist()
        ]
    assert good == [row for row in expected if row[4] is not None and row[6] is not None]
    assert bad == [
        (*row[:3], "null_query" if row[4] is None else "null_document")
        for row in expected
        if row[4] is None or row[6] is None
    ]
    assert queries == sorted(queries)
    assert len(queries) == len(set(queries)) == len(rows)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=20),
    group=st.integers(1, 30),
    unit_pairs=st.integers(1, 30),
    text_only=st.booleans(),
)
def test_pair_units_give_back_every_row_once_and_split_no_query(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[tuple[int, bool]],
    group: int,
    unit_pairs: int,
    text_only: bool,
) -> None:
    rows = [
        (f"q{query}" if has_id else None, f"text {query}", f"d{query}-{at}", f"{query}/{at}")
        for query, (size, has_id) in enumerate(sizes)
        for at in range(size)
    ]
    table = pairs_table(rows)
    path = tmp_path_factory.mktemp("in") / "f.parquet"
    pq.write_table(table.drop_columns("query_id") if text_only else table, path, row_group_size=group)
    plan, units = read_all(config_of(path, "pairs"), unit_pairs)
    assert plan.num_queries == len(sizes) == sum(len(unit.queries) for unit in units)
    assert [text for unit in units for text in unit.queries["query"].to_pylist()] == [
        f"text {q}" for q in range(len(sizes))
    ]
    found = [row for unit in units for row in unit.candidates.to_pylist()]
    assert [row["doc_id"] for row in found] == [row[2] for row in rows]
    assert [f"{row['document']}" for row in found] == [row[3] for row in rows]
    places = zip(plan.units, units, strict=True)
    assert [place for unit, read in places for place in unit.places_of(read.candidates["row"].to_numpy())[1]] == [
        *range(len(rows))
    ]
    assert [row["index"] for row in found] == [int(row[3].partition("/")[2]) for row in rows]


def test_a_unit_inside_a_row_group_reads_its_own_rows(tmp_path: Path) -> None:
    table = pa.table(
        {"query": [f"q{row}" for row in range(1000)], "candidates": [[f"d{row}"] * 3 for row in range(1000)]}
    )
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=1000)
    plan, units = read_all(config_of(tmp_path / "f.parquet"), 100)
    assert len(plan.units) == 30
    assert [text for unit in units for text in unit.queries["query"].to_pylist()] == table["query"].to_pylist()


def test_memory_is_bounded_by_the_unit_and_not_by_the_row_group(tmp_path: Path) -> None:
    """One row group of 100 MB of text; a unit has a hundredth of it."""
    text = "lorem ipsum dolor sit amet " * 37
    candidates = pa.array([[text] * 10], pa.list_(pa.string())).take(pa.array([0] * 10_000))
    table = pa.table({"query": [f"q{row}" for row in range(10_000)], "candidates": candidates})
    options: dict[str, Any] = {"row_group_size": 10_000, "use_dictionary": False, "compression": "none"}
    pq.write_table(table, tmp_path / "f.parquet", **options)
    del table, candidates
    config = config_of(tmp_path / "f.parquet")
    plan = plan_input(config, unit_pairs=1_000)
    assert len(plan.units) == 100
    code = (
        "import pickle, sys, pyarrow as pa; source, unit = pickle.load(sys.stdin.buffer); "
        "rows = source.read(unit); "
        "print(len(rows.candidates), pa.default_memory_pool().max_memory())"
    )
    asked = pickle.dumps((plan.source, plan.units[50]))
    shown = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, check=True)
    num_candidates, peak_bytes = map(int, shown.stdout.split())
    assert num_candidates == 1_000
    assert peak_bytes < 50 << 20


@pytest.mark.parametrize("kind", ["one text, repeated", "texts of one letter"])
def test_a_small_file_that_unpacks_to_very_much_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    """400 MB of text from a dictionary with one entry; 30 MB that zstd makes a hundredth of."""
    path, num_rows = tmp_path / "bomb.parquet", 20_000
    one = pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), ["x" * 20_000])
    texts = one if kind.startswith("one") else pa.array([chr(97 + row % 26) * 20_000 for row in range(1_500)])
    numbers = [str(row) for row in range(len(texts))]
    table = pa.table({"query_id": numbers, "query": numbers, "doc_id": numbers, "text": texts})
    pq.write_table(table, path, compression="zstd", use_dictionary=["text"] if texts is one else False)
    assert path.stat().st_size < 300_000
    config = config_of(path, "pairs")
    plan = plan_input(config, unit_pairs=num_rows)
    code = (
        "import pickle, sys, pyarrow as pa\nsource, unit = pickle.load(sys.stdin.buffer)\n"
        "try: source.read(unit, max_bytes=16 << 20)\n"
        "except Exception as error: print(repr(error), pa.default_memory_pool().max_memory(), sep='\\n')"
    )
    asked = pickle.dumps((plan.source, plan.units[0]))
    shown = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, check=True, text=False)
    error, peak_bytes = shown.stdout.decode().splitlines()
    assert re.match(r"InputError\(.bomb.parquet unpacks to more than 16 MiB in the 1,024 rows from row 0", error)
    assert int(peak_bytes) < 80 << 20


def test_a_query_with_very_many_candidates_is_read_without_a_python_loop(tmp_path: Path) -> None:
    table = pa.table({"query": ["q"], "candidates": pa.array([[f"document {at}" for at in range(100_000)]])})
    tracemalloc.start()
    unit = read_one(tmp_path, table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(unit.candidates) == 100_000
    assert peak < 20 << 20


def test_units_are_read_through_fsspec() -> None:
    folder = uuid.uuid4().hex
    with fsspec.open(f"memory://{folder}/a b/f.parquet", "wb") as sink:
        pq.write_table(nested_table(), sink)
    config = config_of(f"memory://{folder}")
    plan, [unit] = read_all(config)
    assert plan.units[0].spans[0].file == "a b/f.parquet"
    assert len(unit.candidates) == 3


def place_of(unit: WorkUnit, row: int) -> tuple[int, int]:
    """Number of the file, which its name begins with, and row there."""
    [at], [number] = unit.places_of(np.array([row]))
    return int(unit.spans[at].file[0]), int(number)


# --- files that break later


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def test_a_damaged_page_with_checksums_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    table = pa.table({"query": ["q"] * 100, "candidates": [[f"d{row}" * 50] for row in range(100)]})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    _flip(path, pq.read_metadata(path).row_group(0).column(1).data_page_offset + 900)
    with pytest.raises(InputError, match=r"f.parquet cannot be read: .*CRC"):
        read_all(config_of(path))


def test_a_file_that_is_gone_or_shorter_than_planned_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(nested_table(), path)
    config = config_of(path)
    plan = plan_input(config, unit_pairs="auto")
    beyond = replace(plan.units[0], spans=(replace(plan.units[0].spans[0], row_start=3, row_stop=9),))
    with pytest.raises(InputError, match=r"ends at row 5.*goes to row 9.*the plan is not that of this file"):
        plan.source.read(beyond)
    path.unlink()
    with pytest.raises(InputError, match=r"f.parquet cannot be read"):
        plan.source.read(plan.units[0])
