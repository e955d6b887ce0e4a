"""Passthrough columns come out as they came in, over files and types; what cannot is refused with both names."""

from __future__ import annotations

import datetime as dt
import decimal
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from arrow_values import array_of, fits, meaning, types
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from oracle import ByteEncoder, HashScorer

from reranker_batch.config import InputConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.limits import RequestLimits
from reranker_batch.errors import InputError
from reranker_batch.pipeline import ResultSettings, finish_unit, prepare_unit, score_unit
from reranker_batch.schema import canonical_type
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.input.promotion import common_type, keeps_values
from reranker_batch.storage.values import conform, conform_table

FAR, NEAR = dt.datetime(9999, 12, 31), dt.datetime(2026, 11, 20)
CANDIDATE = {"doc_id": "d", "text": "text", "bm25": 0.5, "tags": ["a", "b"]}


def write(path: Path, num_rows: int = 2, **columns: Any) -> Path:
    options = {
        name: columns.pop(name) for name in ("use_deprecated_int96_timestamps", "write_statistics") if name in columns
    }
    table = {"query": ["?"] * num_rows, "candidates": [[CANDIDATE]] * num_rows, **columns}
    pq.write_table(pa.table(table), path, **options)
    return path


def config_of(path: Path, *passthrough: str) -> InputConfig:
    return InputConfig.model_validate({"path": str(path), "columns": {"passthrough": list(passthrough)}})


def plan_of(path: Path, *passthrough: str) -> InputPlan:
    return plan_input(config_of(path, *passthrough), unit_pairs="auto")


def results_of(path: Path, *passthrough: str) -> pa.Table:
    """The nested output, written and read back."""
    config = config_of(path, *passthrough)
    plan = plan_input(config, unit_pairs="auto")
    parts = []
    for unit in plan.units:
        rows = plan.source.read(unit)
        prepared = prepare_unit(unit, rows, ByteEncoder(), RequestLimits(), keep_documents=False)
        finished = finish_unit(
            score_unit(prepared, HashScorer()), ResultSettings("nested", None, False, Activation(), passthrough)
        )
        sink = pa.BufferOutputStream()
        pq.write_table(conform_table(finished.part, finished.schema), sink)
        parts.append(pq.read_table(sink.getvalue()))
    return pa.concat_tables(parts)


# --- one file


def test_the_column_of_candidates_is_passed_through_with_all_its_fields(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    table = results_of(tmp_path, "candidates")
    assert table["candidates"].to_pylist() == [[CANDIDATE]] * 2
    assert table["results"].to_pylist()[0][0]["doc_id"] == "d"
    lists = pa.table({"query": ["?"], "candidates": [["a", "b"]], "doc_id": [["1", "2"]]})
    pq.write_table(lists, tmp_path / "a.parquet")
    assert results_of(tmp_path, "candidates")["candidates"].to_pylist() == [["a", "b"]]


AS_THEY_COME = {
    "duration": pa.array([dt.timedelta(hours=1), None], pa.duration("us")),
    "durations": pa.array([[{"a": 1}], None], pa.list_(pa.struct([("a", pa.duration("s"))]))),
    "by_name": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.duration("ms"))),
    "zone": pa.array([NEAR, None], pa.timestamp("us", "Europe/Berlin")),
    "offset": pa.array([NEAR, None], pa.timestamp("ns", "+02:00")),
    "naive": pa.array([NEAR, None], pa.timestamp("ms")),
    "small": pa.array([1, 255], pa.uint8()),
    "half": pa.array([1.5, None], pa.float32()).cast(pa.float16()),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    "decimal": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(9, 2)),
    "time": pa.array([dt.time(1, 2, 3), None], pa.time64("us")),
    "date": pa.array([dt.date(9999, 12, 31), None], pa.date32()),
    "bytes": pa.array([b"\xff", None], pa.binary()),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("name", AS_THEY_COME)
def test_types_come_out_as_they_came_in(tmp_path: Path, name: str) -> None:
    values = AS_THEY_COME[name]
    write(tmp_path / "a.parquet", **{name: values})
    column = results_of(tmp_path, name)[name].combine_chunks()
    assert column.type.equals(values.type)
    assert column.to_pylist() == values.to_pylist()


def test_encodings_come_out_as_their_values(tmp_path: Path) -> None:
    values = pa.array(["en", None])
    write(tmp_path / "a.parquet", lang=values.dictionary_encode(), large=values.cast(pa.large_string()))
    table = results_of(tmp_path, "lang", "large")
    assert table.schema.field("lang").type == table.schema.field("large").type == pa.string()
    assert table["lang"].to_pylist() == table["large"].to_pylist() == ["en", None]


def test_a_wrong_hint_of_types_does_no_harm(tmp_path: Path) -> None:
    """Writers copy the Arrow schema of another file along."""
    path = tmp_path / "a.parquet"
    hint = pa.schema(
        [("query", pa.duration("s")), ("candidates", pa.int8()), ("n", pa.struct([("x", pa.duration("s"))]))]
    )
    table = pa.table({"query": ["?"], "candidates": [["a"]], "n": [1]})
    encoded = pq.ParquetFile(_written(hint.empty_table())).metadata.metadata[b"ARROW:schema"]
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"ARROW:schema": encoded})
    assert pq.read_metadata(path).metadata[b"ARROW:schema"] == encoded
    assert results_of(tmp_path, "n")["n"].to_pylist() == [1]


def _written(table: pa.Table) -> pa.BufferReader:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return pa.BufferReader(sink.getvalue())


def test_far_dates_in_int96_stay_and_finer_digits_are_refused(tmp_path: Path) -> None:
    values = pa.array([FAR, NEAR], pa.timestamp("us"))
    inside = pa.array([[FAR], None], pa.list_(pa.timestamp("us")))
    path = write(tmp_path / "a.parquet", at=values, inside=inside, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(path).schema.column(5).physical_type == "INT96"
    table = results_of(tmp_path, "at", "inside")
    assert table["at"].to_pylist() == [FAR, NEAR]
    assert table["inside"].to_pylist() == [[FAR], None]
    fine = pa.array([1_000, 1_001], pa.timestamp("ns"))
    write(tmp_path / "a.parquet", fine=fine, use_deprecated_int96_timestamps=True)
    with pytest.raises(InputError, match=r"'fine' in a.parquet has INT96 timestamps with nanoseconds"):
        results_of(tmp_path, "fine")
    assert len(results_of(tmp_path)) == 2


def test_passthrough_of_an_input_without_candidates_is_null(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["?"], "candidates": pa.nulls(1)}), tmp_path / "a.parquet")
    assert results_of(tmp_path, "title")["results"].to_pylist() == [[]]


# --- several files

REFUSED = [
    (pa.array([2**53 + 1, 2]), pa.array([1.0, None])),
    (pa.array([2**63, 2], pa.uint64()), pa.array([-1, 2])),
    (pa.array([decimal.Decimal("0.1")], pa.decimal128(9, 2)), pa.array([0.1])),
    (pa.array([FAR], pa.timestamp("us")), pa.array([NEAR], pa.timestamp("ns"))),
    (pa.array([NEAR], pa.timestamp("us")), pa.array([NEAR], pa.timestamp("us", "UTC"))),
    (pa.array([NEAR.date()], pa.date32()), pa.array([NEAR], pa.timestamp("us"))),
    (pa.array([1], pa.decimal256(76, 0)), pa.array([decimal.Decimal("0.1")], pa.decimal128(9, 2))),
    (pa.array([2**62], pa.duration("s")), pa.array([1], pa.duration("ns"))),
    (pa.array([1]), pa.array([1], pa.duration("ns"))),
    (pa.array(["a"]), pa.array([b"a"])),
    (pa.array([[1]]), pa.array([[1.0]])),
    (pa.array([{"a": 1}]), pa.array([{"a": "1"}])),
    (pa.array([True]), pa.array([1])),
]


@pytest.mark.parametrize(("first", "second"), REFUSED, ids=[f"{a.type} and {b.type}" for a, b in REFUSED])
@pytest.mark.parametrize("is_swapped", [False, True])
def test_types_that_lose_values_together_are_refused_with_both_files(
    tmp_path: Path, first: pa.Array, second: pa.Array, is_swapped: bool
) -> None:
    arrays = (second, first) if is_swapped else (first, second)
    for name, values in zip(("a", "b"), arrays, strict=True):
        write(tmp_path / f"{name}.parquet", len(values), x=values)
    with pytest.raises(InputError) as caught:
        plan_of(tmp_path, "x")
    assert "a.parquet" in str(caught.value)
    assert "b.parquet" in str(caught.value)
    assert "Write it with one type." in str(caught.value)


KEPT = [
    (pa.array([2**53, None]), pa.array([0.5, None]), pa.float64()),
    (pa.array([None, None], pa.int64()), pa.array([0.5, None]), pa.float64()),
    (pa.array([2**62, 2], pa.uint64()), pa.array([-1, 2]), pa.int64()),
    (pa.array([1, 255], pa.uint8()), pa.array([-1, 2], pa.int8()), pa.int16()),
    (pa.array([2**63 - 1, 0]), pa.array([decimal.Decimal("0.1"), None], pa.decimal128(9, 2)), pa.decimal128(21, 2)),
    (pa.array([NEAR, None], pa.timestamp("us")), pa.array([1, 2], pa.timestamp("ns")), pa.timestamp("ns")),
    (pa.array([FAR, None], pa.timestamp("s")), pa.array([FAR, None], pa.timestamp("us")), pa.timestamp("us")),
    (pa.array([NEAR, None], pa.timestamp("us", "UTC")), pa.array([NEAR, None], pa.timestamp("us", "Asia/Tokyo")), None),
    (pa.array([b"abc", None], pa.binary(3)), pa.array([b"abcd", None], pa.binary(4)), pa.binary()),
    (pa.array([{"a": 1}, None]), pa.array([{"b": "1"}, None]), pa.struct([("a", pa.int64()), ("b", pa.string())])),
]


@pytest.mark.parametrize(("first", "second", "merged"), KEPT, ids=[f"{a.type} and {b.type}" for a, b, _ in KEPT])
def test_types_that_keep_their_values_together_are_merged(
    tmp_path: Path, first: pa.Array, second: pa.Array, merged: pa.DataType | None
) -> None:
    write(tmp_path / "a.parquet", x=first)
    write(tmp_path / "b.parquet", x=second)
    column = results_of(tmp_path, "x")["x"].combine_chunks()
    assert column.type == (merged or pa.timestamp("us", "UTC"))
    expected = [*meaning(first), *meaning(second)]
    for was, now in zip(expected, meaning(column), strict=True):
        assert fits(was, now)


def test_large_integers_without_statistics_are_not_taken_for_small_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", x=pa.array([1, 2]), write_statistics=False)
    write(tmp_path / "b.parquet", x=pa.array([1.0, None]))
    with pytest.raises(InputError, match=r"as double values of a.parquet could change"):
        plan_of(tmp_path, "x")


@fuzzed
@given(first=types(), second=types(), seed=st.integers(0, 2**32))
def test_a_common_type_that_promises_to_keep_values_keeps_them(
    first: pa.DataType, second: pa.DataType, seed: int
) -> None:
    chance = random.Random(seed)
    merged = common_type(canonical_type(first), canonical_type(second))
    for source in (first, second):
        if merged is not None and keeps_values(canonical_type(source), merged, None):
            values = array_of(source, 5, chance, wild=False)
            assert fits(meaning(values), meaning(conform(values, merged)))
