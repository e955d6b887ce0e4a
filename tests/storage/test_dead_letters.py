"""Refused candidates keep their input."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.config import InputConfig
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.output.dead_letters import dead_letter_table

MORE = pa.struct([("a", pa.duration("s")), ("none", pa.null())])


def letters_of(
    tmp_path: Path,
    table: pa.Table,
    layout: str = "nested",
    *,
    later: list[dict[str, Any]] | None = None,
    **columns: Any,
) -> tuple[UnitRows, pa.Table]:
    """Read the table as one unit; `later` are dead letters of a later step."""
    pq.write_table(table, tmp_path / "f.parquet")
    values = {"path": str(tmp_path / "f.parquet"), "layout": layout, "columns": columns}
    config = InputConfig.model_validate(values)
    plan = plan_input(config, unit_pairs="auto")
    [unit] = plan.units
    rows = plan.source.read(unit)
    dead_letters = pa.concat_tables([rows.dead_letters, pa.Table.from_pylist(later or [], DEAD_LETTER_PLACES)])
    return rows, dead_letter_table(dead_letters, plan.source.read_whole(unit), unit)


def test_a_nested_dead_letter_keeps_its_row_with_this_one_candidate(tmp_path: Path) -> None:
    struct = pa.struct([("doc_id", pa.int64()), ("text", pa.large_string()), ("more", pa.list_(pa.string()))])
    rows: list[list[Any]] = [
        [{"doc_id": 1, "text": "a", "more": ["m"]}, {"doc_id": 2, "text": None, "more": None}, None],
        [{"doc_id": None, "text": "b", "more": []}],
    ]
    table = pa.table(
        {
            "query": pa.array(["one", None]).dictionary_encode(),
            "candidates": pa.array(rows, pa.large_list(struct)),
            "lang": ["de", "fr"],
            "uuid": pa.array([b"0123456789abcdef"] * 2, pa.uuid()),
        }
    )
    later = [{"query_at": 0, "row": 0, "index": 0, "reason_code": "non_finite_score", "message": "NaN."}]
    _, letters = letters_of(tmp_path, table, later=later)
    shown = letters.drop_columns(["input", "message"]).to_pylist()
    base: dict[str, Any] = {"query_id": "f.parquet#0", "file": "f.parquet", "row": 0}
    assert shown == [
        {**base, "doc_id": "2", "index": 1, "reason_code": "null_document"},
        {**base, "doc_id": "f.parquet#0/2", "index": 2, "reason_code": "null_document"},
        {
            **base,
            "query_id": "f.parquet#1",
            "row": 1,
            "doc_id": "f.parquet#1/0",
            "index": 0,
            "reason_code": "null_query",
        },
        {**base, "doc_id": "1", "index": 0, "reason_code": "non_finite_score"},
    ]
    inputs = letters["input"].to_pylist()
    assert [row["candidates"] for row in inputs] == [[rows[0][1]], [None], [rows[1][0]], [rows[0][0]]]
    assert [(row["query"], row["lang"]) for row in inputs] == [
        ("one", "de"),
        ("one", "de"),
        (None, "fr"),
        ("one", "de"),
    ]
    assert letters.schema.field("input").type.field("candidates").type == pa.list_(
        pa.struct([("doc_id", pa.int64()), ("text", pa.string()), ("more", pa.list_(pa.string()))])
    )


def test_parallel_lists_are_both_reduced(tmp_path: Path) -> None:
    table = pa.table({"query": ["q"], "candidates": [["a", None, "c"]], "doc_id": [["1", "2", "3"]], "x": [[7, 8, 9]]})
    _, letters = letters_of(tmp_path, table)
    assert letters["input"].to_pylist() == [{"query": "q", "candidates": [None], "doc_id": ["2"], "x": [7, 8, 9]}]


def test_a_row_of_unequal_lists_is_kept_whole_and_once(tmp_path: Path) -> None:
    """Kept whole in each of its dead letters, a row of n candidates would be written n times."""
    table = pa.table(
        {"query": ["p", "q", "r"], "candidates": [["a", None], ["b", "c"], []], "doc_id": [["1", "2"], ["3"], ["4"]]}
    )
    _, letters = letters_of(tmp_path, table)
    assert letters["reason_code"].to_pylist() == ["null_document", *["unequal_lists"] * 3]
    assert letters["index"].to_pylist() == [1, 0, 1, None]
    assert letters["input"].to_pylist() == [
        {"query": "p", "candidates": [None], "doc_id": ["2"]},
        {"query": "q", "candidates": ["b", "c"], "doc_id": ["3"]},
        None,
        {"query": "r", "candidates": [], "doc_id": ["4"]},
    ]


def test_unequal_lists_under_a_query_without_text_take_no_id_of_another_row(tmp_path: Path) -> None:
    """The row is kept whole, whatever else is wrong with it and whether rows stand behind it."""
    bad: dict[str, list[Any]] = {
        "query": [None, None, None],
        "candidates": [["a", "b"], [], ["c"]],
        "doc_id": [["x"], ["y"], ["z", "w"]],
    }
    good: dict[str, list[Any]] = {"query": ["q"], "candidates": [["d"]], "doc_id": [["other"]]}
    for behind in (False, True):
        table = pa.table({name: values + (good[name] if behind else []) for name, values in bad.items()})
        rows, letters = letters_of(tmp_path, table.cast(table.schema.set(0, pa.field("query", pa.string()))))
        assert len(rows.candidates) == int(behind)
        assert letters["reason_code"].to_pylist() == ["unequal_lists"] * 4
        assert letters["index"].to_pylist() == [0, 1, None, 0]
        assert letters["row"].to_pylist() == [0, 0, 1, 2]
        whole = [{name: values[row] for name, values in bad.items()} for row in range(3)]
        assert letters["input"].to_pylist() == [whole[0], None, whole[1], whole[2]]
        assert "other" not in letters["doc_id"].to_pylist()


def test_a_pair_is_kept_as_it_is(tmp_path: Path) -> None:
    rows = {"query_id": ["a", "a", None], "query": ["x", "y", "z"], "text": ["1", "2", None], "extra": [0.5, None, 1.5]}
    _, letters = letters_of(tmp_path, pa.table(rows), "pairs")
    assert letters["input"].to_pylist() == [
        {"query_id": "a", "query": "y", "text": "2", "extra": None},
        {"query_id": None, "query": "z", "text": None, "extra": 1.5},
    ]
    assert letters["query_id"].to_pylist() == ["a", "f.parquet#2"]
    assert letters["doc_id"].to_pylist() == ["f.parquet#1/1", "f.parquet#2/0"]


def test_bytes_that_are_no_text_are_replaced_so_that_every_reader_opens_the_file(tmp_path: Path) -> None:
    binary = pa.array([b"a\xff", b"b"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 2, binary.buffers())
    _, letters = letters_of(tmp_path, pa.table({"query": ["q"], "candidates": pa.ListArray.from_arrays([0, 2], texts)}))
    pq.write_table(letters, tmp_path / "letters.parquet")
    shown = pl.read_parquet(tmp_path / "letters.parquet")
    assert shown["reason_code"].to_list() == ["invalid_utf8"]
    assert shown["input"].struct.field("candidates").to_list() == [["a\ufffd"]]


def test_every_candidate_of_a_long_row_can_be_refused(tmp_path: Path) -> None:
    """The work grows with the candidates and not with their square."""
    table = pa.table({"query": pa.nulls(1, pa.string()), "candidates": [[f"d{at}" for at in range(50_000)]]})
    rows, letters = letters_of(tmp_path, table)
    assert len(rows.dead_letters) == len(letters) == 50_000
    assert [row["candidates"] for row in letters["input"].slice(49_998).to_pylist()] == [["d49998"], ["d49999"]]
    unequal = pa.table({"query": ["q"], "candidates": [["d"] * 50_000], "doc_id": [["1"]]})
    _, letters = letters_of(tmp_path, unequal)
    assert letters["input"].null_count == 49_999


def test_no_rejects_give_an_empty_table_with_its_schema(tmp_path: Path) -> None:
    _, letters = letters_of(tmp_path, pa.table({"query": ["q"], "candidates": [["a"]]}))
    assert len(letters) == 0
    assert letters.schema.names[-1] == "input"


def test_dead_letters_become_input_again(tmp_path: Path) -> None:
    struct = pa.struct([("doc_id", pa.string()), ("text", pa.string())])
    rows = [[{"doc_id": "1", "text": "a"}, {"doc_id": "2", "text": "b"}]]
    later = [{"query_at": 0, "row": 0, "index": 1, "reason_code": "process_died", "message": "Died."}]
    table = pa.table({"query_id": ["q"], "query": ["?"], "candidates": pa.array(rows, pa.list_(struct))})
    _, letters = letters_of(tmp_path, table, later=later)
    again = tmp_path / "again.parquet"
    pq.write_table(pa.Table.from_struct_array(letters["input"]), again)
    config = InputConfig(path=str(again))
    plan = plan_input(config, unit_pairs="auto")
    unit: WorkUnit = plan.units[0]
    rows_again = plan.source.read(unit)
    assert rows_again.candidates.select(["doc_id", "document"]).to_pylist() == [{"doc_id": "2", "document": "b"}]
    assert rows_again.queries["query_id"].to_pylist() == ["q"]


def test_types_that_only_arrow_has_are_kept(tmp_path: Path) -> None:
    """Lists of structs with a null field and durations among them."""
    more = pa.array([[{"a": 1, "none": None}, {"a": 2, "none": None}]] * 2, pa.list_(MORE))
    rows = [[{"text": None, "more": row.as_py()}] for row in more]
    candidates = pa.array(rows, pa.list_(pa.struct([("text", pa.string()), ("more", more.type)])))
    age = pa.array([1, 2], pa.duration("ms"))
    _, letters = letters_of(tmp_path, pa.table({"query": ["p", "q"], "candidates": candidates, "age": age}))
    pq.write_table(letters, tmp_path / "letters.parquet")
    shown = pq.read_table(tmp_path / "letters.parquet")["input"].combine_chunks()
    assert shown.field("age").equals(age)
    assert shown.field("candidates").to_pylist() == candidates.to_pylist()
