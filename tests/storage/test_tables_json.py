"""JSON values come out exactly as they are, or an error says which line holds the one that cannot."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from raw_tables import jsonl, places_of, read, rows_of, written

from reranker_batch.errors import InputError
from reranker_batch.storage.tables import lines
from reranker_batch.storage.tables.json_document import DocumentText, elements
from reranker_batch.storage.tables.lines import Lines
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.values import invalid_positions


def of_lines(tmp_path: Path, content: bytes, **asked: Any) -> list[dict[str, Any]]:
    return rows_of(written(tmp_path / "a.jsonl", content), **asked)


def refusal(tmp_path: Path, content: bytes, name: str = "a.jsonl", **asked: Any) -> str:
    with pytest.raises(InputError) as caught:
        rows_of(written(tmp_path / name, content), **asked)
    return str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        ["2024-01-01", "2024-01-01T00:00:00", "007", "1", "true", "null", ""],
        [None, 1, -(2**63), 2**63 - 1],
        [2**63, 2**64 - 1, 0],
        [1.5, 2**53, 2**53 + 2, 2**70, None, -0.0, 0.1, 1e-320, 1.7976931348623157e308],
        [True, None, False],
        [[], None, [None, [1]], [[2]]],
        ["\u2028", "x\x85y", "\r", "\x00", "\U0001f600", "\ufeff"],
    ],
    ids=str,
)
def test_values_are_exact(tmp_path: Path, values: list[Any]) -> None:
    rows = of_lines(tmp_path, jsonl([{"a": value} for value in values]))
    assert repr([row["a"] for row in rows]) == repr(
        [float(v) if type(v) is int and any(type(o) is float for o in values) else v for v in values]
    )


def test_a_missing_key_is_null_at_any_depth_and_columns_keep_their_order(tmp_path: Path) -> None:
    rows = of_lines(tmp_path, b'{"b": {"y": 1}, "a": [{"x": 1}]}\n{"c": 1, "a": [{"z": 2}, null]}\n{"b": null}\n')
    assert rows == [
        {"b": {"y": 1}, "a": [{"x": 1, "z": None}], "c": None},
        {"b": None, "a": [{"x": None, "z": 2}, None], "c": 1},
        {"b": None, "a": None, "c": None},
    ]
    assert [*rows[0]] == ["b", "a", "c"]


def test_an_object_without_keys_is_null(tmp_path: Path) -> None:
    [rows] = read(written(tmp_path / "a.jsonl", b'{"m": {}}\n{"m": {}}\n'))
    assert rows.table.schema == pa.schema([("m", pa.null())])
    assert of_lines(tmp_path, b'{"m": {}}\n{"m": {"a": 1}}\n') == [{"m": {"a": None}}, {"m": {"a": 1}}]


def test_an_object_whose_keys_are_values_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    run = {"q1": {f"d{number}": 0.5 for number in range(5_000)}, "q2": {"d1": 1.0}}
    message = refusal(tmp_path, jsonl([{"id": 1}, {"id": 2, "scores": run["q1"]}]))
    assert (
        "Column 'scores' of a.jsonl has names that seem to be values: the first of more than 4,096 names in line 2"
        in message
    )
    assert "A row of a.json has names that seem to be values" in refusal(tmp_path, json.dumps(run).encode(), "a.json")
    assert of_lines(tmp_path, jsonl([{"id": 1, "scores": run}]), wanted=["id"]) == [{"id": 1}]


def test_infinities_and_nan_are_read_as_python_writes_them(tmp_path: Path) -> None:
    values = [row["a"] for row in of_lines(tmp_path, b'{"a": NaN}\n{"a": -Infinity}\n{"a": Infinity}\n{"a": 1}\n')]
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, math.inf, 1.0]


@pytest.mark.parametrize(
    ("second", "shown"),
    [
        ("x", "values of different types: a whole number in line 2 and text in line 4"),
        (True, "a whole number in line 2 and true or false in line 4"),
        ([1], "a whole number in line 2 and a list in line 4"),
        ({"a": 1}, "a whole number in line 2 and an object in line 4"),
        (2**64, "numbers: a whole number of more than 64 bits in line 4"),
    ],
)
def test_values_that_no_column_can_hold_are_named_by_both_lines(tmp_path: Path, second: Any, shown: str) -> None:
    rows: list[dict[str, Any]] = [{"a": None}, {"a": 1}, {}, {"a": second}]
    assert shown in refusal(tmp_path, jsonl(rows))
    nested = [{"doc": {"parts": [{"n": row.get("a")}]}} for row in rows]
    message = refusal(tmp_path, jsonl(nested))
    assert "Column 'doc.parts.n' of a.jsonl" in message
    assert shown in message
    assert of_lines(tmp_path, jsonl(rows), wanted=["b"]) == [{}] * 4


def test_numbers_that_would_lose_digits_are_refused(tmp_path: Path) -> None:
    assert "a whole number that no float holds exactly in line 2" in refusal(
        tmp_path, jsonl([{"a": 0.5}, {"a": 2**53 + 1}])
    )
    assert "one that no float holds in line 2" in refusal(tmp_path, b'{"a": 1.5}\n{"a": 1e400}\n')
    assert "line 1 is not JSON: it has a number of thousands of digits" in refusal(
        tmp_path, b'{"a": ' + b"9" * 5_000 + b"}\n"
    )


def test_types_that_differ_between_batches_are_refused(tmp_path: Path) -> None:
    filler = jsonl([{"text": "x" * 1_000}]) * (lines.BLOCK_BYTES // 1_000)
    content = b'{"a": 1}\n' + filler + b'{"a": "x"}\n'
    assert "Column 'a' of a.jsonl has values of different types: int64 before a.jsonl, line" in refusal(
        tmp_path, content, piece_bytes=1 << 30
    )


def test_ids_are_texts_whatever_they_are(tmp_path: Path) -> None:
    rows = [
        {"q": {"id": 1}, "c": [{"id": "a", "n": 1}], "ids": [1, "2"], "d.e": 5},
        {"q": {"id": "x"}, "c": [{"id": 2**70, "n": None}], "ids": None, "d.e": "6"},
    ]
    asked = ["q.id", "c.id", "ids", "d.e"]
    assert of_lines(tmp_path, jsonl(rows), ids=asked) == [
        {"q": {"id": "1"}, "c": [{"id": "a", "n": 1}], "ids": ["1", "2"], "d.e": "5"},
        {"q": {"id": "x"}, "c": [{"id": str(2**70), "n": None}], "ids": None, "d.e": "6"},
    ]
    for wrong, shown in ((1.0, "a fraction"), (True, "true or false"), ({"x": 1}, "an object")):
        message = refusal(tmp_path, jsonl([*rows, {"q": {"id": wrong}}]), ids=asked)
        assert f"Column 'q.id' of a.jsonl is an id: {shown} in line 3" in message


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b'{"a": 1, "a": 1}', "the key 'a' stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' stands twice"),
        (b'{"a": 01}', "at character 8"),
        (b'{"a": 1} x', "Extra data at character 10"),
        (b'{"a": 1}{"a": 2}', "Extra data"),
        (b'{"a":', "at character 6"),
        (b'{"a": "x\ty"}', "Invalid control character at at character 9"),
        (b"[1]", "a list stands there"),
        (b"1", "a whole number stands there"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "nested more than 64 deep"),
        (b'{"\xff": 1}', "no valid Unicode"),
    ],
)
def test_a_bad_line_is_refused_without_its_text(tmp_path: Path, line: bytes, shown: str) -> None:
    message = refusal(tmp_path, b'{"z": "first"}\n' + line + b"\n")
    assert shown in message
    assert len(message) < 300


def test_invalid_unicode_stays_invalid_in_its_row(tmp_path: Path) -> None:
    bad = [b'"\xff"', b'"\\ud800"', b'"\\udcff"', b'"\\udcc3\\udca9"', b'"\xff\\udcc3\\udca9"', b'"\xed\xa0\x80"']
    content = b"".join(b'{"c": [{"text": %s}, {"text": "ok"}], "t": %s}\n' % (text, text) for text in bad)
    [rows] = read(written(tmp_path / "a.jsonl", content + b'{"c": [], "t": "\\ud83d\\ude00"}\n'))
    assert invalid_positions(rows.table["t"].chunk(0)).tolist() == [*range(len(bad))]
    assert invalid_positions(rows.table["c"].chunk(0)).tolist() == [*range(len(bad))]
    raw = rows.table["t"].cast(pa.large_binary()).to_pylist()
    assert raw[0] == b"\xff"
    assert raw[-1] == "\U0001f600".encode()


def test_a_line_over_the_limit_is_named(tmp_path: Path) -> None:
    long = b'{"a": "' + b"x" * lines.MAX_LINE_BYTES + b'"}\n'
    assert refusal(tmp_path, b'{"a": "y"}\n' + long, piece_bytes=1 << 30).startswith(
        "a.jsonl, line 2 has more than 64 MiB"
    )
    assert "a.json, line 2 is not JSON: a row has more than 64 MiB" in refusal(tmp_path, b"[\n" + long + b"]", "a.json")


# --- documents


def test_an_array_is_read_in_steps_and_its_rows_have_their_lines(tmp_path: Path) -> None:
    rows = [{"n": number, "text": "caf\u00e9\u2028 [{,]}" * 300} for number in range(5_000)]
    files = written(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False, indent=1).encode())
    assert files.form == "json"
    assert len(read(files)) > 2
    assert rows_of(files) == rows
    assert places_of(files)[4_999] == f"a.json, line {2 + 4 * 4_999}"


class Trickle:
    """A source that gives a few bytes at a time, as a network may."""

    def __init__(self, content: bytes, size: int) -> None:
        self._content, self._size = io.BytesIO(content), size

    def read(self, size: int) -> bytes:
        return self._content.read(min(size, self._size))


@pytest.mark.parametrize("size", range(1, 12))
def test_an_array_may_come_in_parts_of_any_size(tmp_path: Path, size: int) -> None:
    rows = [
        {"a": '\u00e9\\"\U0001f600', "b": [-1.5e-3, True, None, "Unterminated"]},
        {},
        {"a": "\U0001f600", "b": [1e10]},
    ]
    content = f" {json.dumps(rows, ensure_ascii=size % 2 == 0)}\n".encode()
    files = written(tmp_path / "a.json", content)
    text = DocumentText(Lines(files, pieces(files)[0]), Trickle(content, size))
    assert [row for _, row in elements(text)] == rows
    assert rows_of(written(tmp_path / "a.json", b"[ ]")) == []


def test_an_object_of_objects_has_a_row_for_each_and_any_other_object_is_a_row(tmp_path: Path) -> None:
    by_key = {"q1": {"query": "x", "n": 1}, "q2": {"query": "y"}}
    assert rows_of(written(tmp_path / "a.json", json.dumps(by_key).encode())) == [
        {"key": "q1", "query": "x", "n": 1},
        {"key": "q2", "query": "y", "n": None},
    ]
    one = {"query": {"text": "x"}, "candidates": [{"docid": 1}]}
    assert rows_of(written(tmp_path / "a.json", json.dumps(one, indent=2).encode())) == [one]
    assert "column 'key'" in refusal(tmp_path, b'{"a": {"key": 1}}', "a.json")


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b'[{"a": 1}', "line 1 is not JSON: the array does not end"),
        (b'[\n{"a": 1}\n{"a": 2}]', "line 3 is not JSON: ',' or ']' is expected"),
        (b'[\n{"a": 1},\n]', "line 3 is not JSON: Expecting value"),
        (b'[{"a": 1}] x', "more follows after the end"),
        (b'[{"a": 1},\n 5]', "a.json, line 2: a row is a JSON object, and a whole number stands there"),
        (b'[{"a": 1, "a": 2}]', "the key 'a' stands twice"),
        (b'{"a":\n 1}\n{"a": 2}', "an object a line, name it .jsonl"),
        (b'[{"a": "x]', "Unterminated string"),
        (b'[{"a": tru', "Expecting value"),
    ],
)
def test_a_broken_document_is_named_by_its_line(tmp_path: Path, content: bytes, shown: str) -> None:
    assert shown in refusal(tmp_path, content, "a.json")
