"""Rows of files of any form come out as they stand there, each once."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import fuzzed_by
from hypothesis import event, given
from hypothesis import strategies as st
from raw_tables import jsonl, places_of, read, rows_of, tsv, written

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import columns_seen
from reranker_batch.storage.tables.separated import blank_fields, tab_fields
from reranker_batch.storage.tables.table_files import open_table

ROWS = [
    {"query_id": "007", "query": "caf\u00e9 \u2028 x\x85y", "when": "2024-01-01"},
    {"query_id": "8", "query": 'a "quoted" \r text', "when": ""},
    {"query_id": "9", "query": "null", "when": "NaN"},
]


def csv_of(rows: list[dict[str, str]], quoting: int = csv.QUOTE_ALL) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[0]], quoting=quoting)  # type: ignore[arg-type]  # typeshed has literals
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


CONTENTS = {
    "a.jsonl": jsonl(ROWS),
    "a.ndjson": jsonl(ROWS).replace(b"\n", b"\r\n"),
    "lines.json": jsonl(ROWS),
    "array.json": json.dumps(ROWS, indent=2).encode(),
    "a.csv": csv_of(ROWS),
    "a.tsv": tsv(ROWS),
    "crlf.tsv": tsv(ROWS).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("is_marked", [False, True], ids=["plain", "bom"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst", "no suffix"])
def test_all_forms_give_the_same_rows(tmp_path: Path, name: str, is_marked: bool, packed: str) -> None:
    content = (b"\xef\xbb\xbf" if is_marked else b"") + CONTENTS[name]
    if packed == ".gz":
        content = gzip.compress(content[:40]) + gzip.compress(content[40:])
    if packed == ".zst":
        content = b"".join(pa.compress(part, "zstd", asbytes=True) for part in (content[:40], content[40:]))
    path = tmp_path / ("rows" if packed == "no suffix" else name + packed)
    assert rows_of(written(path, content), 30) == ROWS


def test_parquet_is_read_by_row_groups_in_plain_types(tmp_path: Path) -> None:
    table = pa.table({"id": range(10), "text": pa.array(["x"] * 10, pa.dictionary(pa.int8(), pa.string()))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    files = open_table(str(tmp_path / "a.parquet"))
    assert [(piece.start, piece.stop) for piece in pieces(files, 1)] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert len(pieces(files)) == 1
    assert rows_of(files, 1) == table.to_pylist()
    assert places_of(files, 1)[-1] == "a.parquet, row 9"
    [rows] = read(files, wanted=["text"])
    assert rows.table.schema == pa.schema([("text", pa.large_string())])


def test_few_bytes_of_parquet_that_unpack_to_many_come_in_small_tables(tmp_path: Path) -> None:
    row = {"id": "x", "candidates": [{"text": "y" * 20_000}] * 100}
    pq.write_table(pa.Table.from_pylist([row] * 200), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1 << 20
    assert max(rows.table.nbytes for rows in read(open_table(str(tmp_path / "a.parquet")))) < 100 << 20


def test_ids_of_parquet_become_texts(tmp_path: Path) -> None:
    rows = [{"qid": 7, "c": [{"d": {"id": 1}, "n": 1}, None]}, {"qid": None, "c": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    [first, second] = rows_of(open_table(str(tmp_path / "a.parquet")), ids=["qid", "c.d.id"])
    assert first == {"qid": "7", "c": [{"d": {"id": "1"}, "n": 1}, None]}
    assert second == {"qid": None, "c": None}
    with pytest.raises(InputError, match=r"'c.d' in a.parquet is struct.*one value"):
        rows_of(open_table(str(tmp_path / "a.parquet")), ids=["c.d"])


def test_a_run_has_columns_between_blanks(tmp_path: Path) -> None:
    content = b"1 Q0 d1  1\t0.5 tag\r\n\r\n  2\tQ0 d\xc3\xa9 2 0.25 tag  \n"
    for name in ("run", "run.trec"):
        assert [[*row.values()] for row in rows_of(written(tmp_path / name, content), 5)] == [
            ["1", "Q0", "d1", "1", "0.5", "tag"],
            ["2", "Q0", "d\u00e9", "2", "0.25", "tag"],
        ]


def test_files_without_a_header_have_numbered_columns(tmp_path: Path) -> None:
    for name, content in (("top.tsv", b"1\t\ta\n2\tb\t\n"), ("top.csv", b"1,,a\n2,b,\n")):
        files = written(tmp_path / name, content, has_header=False)
        assert rows_of(files) == [{"0": "1", "1": "", "2": "a"}, {"0": "2", "1": "b", "2": ""}]
        assert rows_of(files, wanted=["1"]) == [{"1": ""}, {"1": "b"}]


@pytest.mark.parametrize("name", CONTENTS)
def test_rows_are_counted_where_no_column_is_wanted(tmp_path: Path, name: str) -> None:
    files = written(tmp_path / name, CONTENTS[name])
    assert sum(len(rows.table) for rows in read(files, 30, wanted=["absent"])) == len(ROWS)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.trec"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    for content in (b"", b"\n", b"\xef\xbb\xbf"):
        files = written(tmp_path / name, content)
        assert rows_of(files) == []
        assert columns_seen(files).names == []


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    content = jsonl(ROWS * 50) + b"\n" + b"{oops\n" + jsonl(ROWS)
    for piece_bytes in (1, 64, 1 << 20):
        with pytest.raises(InputError, match=r"a.jsonl, line 152 is not JSON: .* at character 2"):
            rows_of(written(tmp_path / "a.jsonl", content), piece_bytes)
    with pytest.raises(InputError, match="a.tsv, line 6 has 2 columns; the first line has 3 .query_id, query, when"):
        rows_of(written(tmp_path / "a.tsv", tsv(ROWS) + b"\nx\ty\n"), 7)
    with pytest.raises(InputError, match="a.csv, line 5 has 2 columns"):
        rows_of(written(tmp_path / "a.csv", csv_of(ROWS) + b"x,y\r\n"))


def test_columns_seen_are_those_of_a_sample(tmp_path: Path) -> None:
    content = jsonl([{"a": 1, "b": [{"c": "x"}]}, {"a": 1.5, "d": None}])
    seen = columns_seen(written(tmp_path / "a.jsonl", content))
    assert seen.names == ["a", "b", "d"]
    assert seen.field("a").type == pa.float64()
    assert columns_seen(written(tmp_path / "a.tsv", tsv(ROWS))).names == [*ROWS[0]]


LINES = st.lists(st.text(st.characters(exclude_characters="\n\t", codec="utf-8"), max_size=12), max_size=20)


@fuzzed_by(100, 3_000)
@given(lines=LINES, piece_bytes=st.integers(1, 40), is_ended=st.booleans(), blanks=st.integers(0, 2))
def test_every_line_is_in_one_piece(
    lines: list[str], piece_bytes: int, is_ended: bool, blanks: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ends = ["\n" * (blanks + 1)] * len(lines)
    if lines and not is_ended and not lines[-1].endswith("\r"):
        ends[-1] = ""
    content = "".join(f"{at}\t{line}{end}" for at, (line, end) in enumerate(zip(lines, ends, strict=True)))
    files = written(tmp_path_factory.mktemp("t") / "a.tsv", content.encode(), has_header=False)
    expected: list[tuple[Any, ...]] = [(str(at), line.removesuffix("\r")) for at, line in enumerate(lines)]
    assert [tuple(row.values()) for row in rows_of(files, piece_bytes)] == expected
    assert places_of(files, piece_bytes) == [f"a.tsv, line {at * (blanks + 1) + 1}" for at in range(len(lines))]


BLOCKS = st.lists(st.sampled_from([b"a", b"\xc3\xa9", b"\xff", b" ", b"\t", b"\r", b"\n", b"\x85", b"\0"])).map(
    b"".join
)


@fuzzed_by(200, 5_000)
@given(block=BLOCKS)
def test_fields_are_what_stands_between_tabs_or_runs_of_blanks(block: bytes) -> None:
    lines = [line.removesuffix(b"\r") for line in block.removesuffix(b"\n").split(b"\n")]
    between_tabs = [line.split(b"\t") if line else [] for line in lines]
    between_blanks = [[field for field in line.replace(b"\t", b" ").split(b" ") if field] for line in lines]
    for fields, expected in ((tab_fields(block), between_tabs), (blank_fields(block), between_blanks)):
        assert fields.counts.tolist() == [*map(len, expected)]
        assert fields.values.cast(pa.large_binary()).to_pylist() == [field for line in expected for field in line]


TEXTS = st.text(st.characters(exclude_characters="\n\t", codec="utf-8"), max_size=10)


@fuzzed_by(60, 2_000)
@given(
    rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=12),
    piece_bytes=st.integers(1, 200),
    packed=st.sampled_from(["", ".gz", ".zst"]),
)
def test_random_rows_are_equal_in_all_forms(
    rows: list[tuple[str, ...]], piece_bytes: int, packed: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A carriage return at the end of a line of TSV belongs to its end, so texts there have none."""
    expected = [dict(zip(("id", "a", "b"), (*row[:2], row[2].rstrip("\r")), strict=True)) for row in rows]
    folder = tmp_path_factory.mktemp("t")
    pq.write_table(pa.Table.from_pylist(expected), folder / "a.parquet", row_group_size=3)
    contents = {
        "a.jsonl": jsonl(expected),
        "a.json": json.dumps(expected).encode(),
        "a.csv": csv_of(expected, csv.QUOTE_MINIMAL),
        "a.tsv": tsv(expected),
    }
    tables = [written(folder / f"{name}{packed}", _packed(content, packed)) for name, content in contents.items()]
    for files in (open_table(str(folder / "a.parquet")), *tables):
        assert rows_of(files, piece_bytes) == expected
        assert {field.type for rows in read(files, piece_bytes) for field in rows.table.schema} == {pa.large_string()}


def _packed(content: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(content)
    return bytes(pa.compress(content, "zstd", asbytes=True)) if suffix else content


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@fuzzed_by(150, 5_000)
@given(rows=st.lists(st.dictionaries(st.sampled_from("abc"), JSON_VALUES, max_size=3), max_size=5))
def test_random_json_comes_out_as_it_is_or_not_at_all(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is missing is null, and an object without keys too; a whole number may be an equal float."""
    files = written(tmp_path_factory.mktemp("t") / "a.jsonl", jsonl(rows))
    try:
        read_rows = rows_of(files)
    except InputError:
        event("refused")
    else:
        assert [_pruned(row) for row in read_rows] == [_pruned(row) for row in rows]


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _pruned(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None} or None
    return [_pruned(item) for item in value] if isinstance(value, list) else value
