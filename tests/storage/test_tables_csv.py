"""CSV values come out as they stand between their quotes; what is no CSV is named by its line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest
from fuzzing import fuzzed_by
from hypothesis import given
from hypothesis import strategies as st
from raw_tables import places_of, read, rows_of, written

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.lines import BLOCK_BYTES
from reranker_batch.storage.tables.table_files import open_table
from reranker_batch.storage.values import invalid_positions


def test_quotes_hold_commas_quotes_and_every_kind_of_line_end(tmp_path: Path) -> None:
    content = (
        b'id,text\n1,"a ""quoted"", text"\n2,"two\nlines"\n\n3,"two\r\nlines"\r\n4,a\rb\n5,"a\rb"\r\n'
        b"6,x\xc2\x85y\xe2\x80\xa8z\n7,"
    )
    files = written(tmp_path / "a.csv", content)
    texts = ['a "quoted", text', "two\nlines", "two\r\nlines", "a\rb", "a\rb", "x\x85y\u2028z", ""]
    assert rows_of(files) == [{"id": str(at), "text": text} for at, text in enumerate(texts, start=1)]
    assert places_of(files) == [f"a.csv, line {number}" for number in (2, 3, 6, 8, 9, 10, 11)]


def test_values_are_never_taken_for_anything_but_text(tmp_path: Path) -> None:
    values = ["007", "1e5", "NA", "null", "", "true", "2024-01-01", " x ", "-0", "\ufeff", "\x00"]
    content = "a,b\n" + "".join(f"{value},z\n" for value in values)
    files = written(tmp_path / "a.csv", content.encode())
    assert [row["a"] for row in rows_of(files)] == values
    assert {field.type for rows in read(files) for field in rows.table.schema} == {pa.large_string()}


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (
            b'a,b\n1,"x\n2,y\n3,z\n',
            r"a.csv, line 2 is not CSV: a quote that begins there is not closed \(seen up to line 4",
        ),
        (b'a,b\n1,x\n2,"y"z\n', "a.csv, line 3 is not CSV: ',' expected after '\"'"),
        (b"a,b\n1,x\n\n2\n", r"a.csv, line 4 has 1 columns; the first line has 2 \(a, b\)"),
        (b'a,b\n"1\n2",x,3\n', r"a.csv, line 2 has 3 columns"),
        (b"a,a\n1,2\n", "Column name 'a' stands twice in the header of a.csv"),
        (b"\xff,b\n1,2\n", "'.udcff' in the header of a.csv is not valid UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "a.csv is UTF-16"),
        (
            "a,b\n1,2\n".encode("utf-16-be"),
            "header of a.csv has a null or a carriage return in '.x00a.x00'. Write .* UTF-8",
        ),
        (b"a,b\r1,2\r", "header of a.csv has a null or a carriage return in 'b.r1'.* with newlines"),
    ],
)
def test_what_is_no_csv_is_named_by_its_line(tmp_path: Path, content: bytes, shown: str) -> None:
    with pytest.raises(InputError, match=shown):
        rows_of(written(tmp_path / "a.csv", content))


@pytest.mark.parametrize(
    ("name", "line", "shown"),
    [
        ("a.csv", b"query;text", "has semicolons. Columns of CSV stand between commas. Write the file so.$"),
        ("a.csv", b"query\ttext", "has tabs. .* or name it .tsv"),
        ("a.csv", b"query|text", "has bars"),
        ("a.tsv", b"query,text", "has commas. Columns of TSV stand between tabs.* or name it .csv"),
    ],
)
def test_columns_between_other_characters_are_told(tmp_path: Path, name: str, line: bytes, shown: str) -> None:
    (tmp_path / name).write_bytes(line + b"\nx\n")
    for has_header in (True, False):
        files = open_table(str(tmp_path / name), has_header=has_header)
        with pytest.raises(InputError, match=f"The first line of {name} is one column, and {shown}"):
            read(files)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.trec", "a.json"])
def test_a_file_that_is_packed_and_not_called_so_is_told(tmp_path: Path, name: str) -> None:
    packed: bytes = pa.compress(b"rows\n", "zstd", asbytes=True)
    for content, how, suffix in ((gzip.compress(b"rows\n"), "gzip", "gz"), (packed, "zstd", "zst")):
        with pytest.raises(InputError, match=rf"{name} is packed by {how}. Give its name the suffix .{suffix}"):
            read(written(tmp_path / name, content))


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv"):
        assert rows_of(written(tmp_path / name, b"a\n")) == []


def test_invalid_utf8_stays_in_its_row(tmp_path: Path) -> None:
    for name, content in (("a.csv", b'a,b\n"x\xff",1\ny,\xc3\n'), ("a.tsv", b"a\tb\nx\xff\t1\ny\t\xc3\n")):
        [rows] = read(written(tmp_path / name, content))
        assert invalid_positions(rows.table["a"].chunk(0)).tolist() == [0]
        assert invalid_positions(rows.table["b"].chunk(0)).tolist() == [1]
        assert rows.table["a"].cast(pa.large_binary()).to_pylist() == [b"x\xff", b"y"]


def test_a_large_file_comes_in_several_tables(tmp_path: Path) -> None:
    row = b'1,"' + b"x\n" * 500 + b'"\n'
    files = written(tmp_path / "a.csv", b"id,text\n" + row * (2 * BLOCK_BYTES // len(row)))
    tables = read(files)
    assert len(tables) > 1
    assert sum(len(rows.table) for rows in tables) == 2 * BLOCK_BYTES // len(row)
    assert tables[-1].place(0) == f"a.csv, line {2 + 501 * sum(len(rows.table) for rows in tables[:-1])}"


VALUES = st.text(st.characters(codec="utf-8"), max_size=8)


@fuzzed_by(100, 3_000)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=8),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_csv_writers_write_is_read_back(
    rows: list[tuple[str, ...]], quoting: int, end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without quotes a carriage return at the end of a line belongs to its end, and Python writes it so."""
    if quoting == csv.QUOTE_MINIMAL:
        rows = [(*row[:-1], row[-1].rstrip("\r")) for row in rows]
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]  # typeshed has literals
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("t") / "a.csv"
    content = text.getvalue().encode()
    if content.startswith(b"\xef\xbb\xbf"):
        content = b"\xef\xbb\xbf" + content
    files = written(path, content, has_header=False)
    assert [tuple(row.values()) for row in rows_of(files)] == rows
