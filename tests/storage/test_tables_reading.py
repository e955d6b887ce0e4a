"""Rows of files of any form come out as they stand there, each once."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import fuzzed_by
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import columns_seen, read_piece
from reranker_batch.storage.tables.table_files import TableFiles, open_table

ROWS = [
    {"query_id": "007", "query": "caf\u00e9 \u2028 x\x85y", "when": "2024-01-01"},
    {"query_id": "8", "query": 'a "quoted" \r text', "when": ""},
]


def rows_of(files: TableFiles, piece_bytes: int = 1 << 20, **asked: Any) -> list[dict[str, Any]]:
    read = [
        rows.table.to_pylist()
        for piece in pieces(files, piece_bytes)
        for rows in read_piece(files, pickle.loads(pickle.dumps(piece)), **asked)
    ]
    return [row for table in read for row in table]


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def tsv(rows: list[dict[str, Any]], *, header: bool = True) -> bytes:
    lines = [[*rows[0]]] if header else []
    return "".join("\t".join(line) + "\n" for line in [*lines, *([*row.values()] for row in rows)]).encode()


def written(path: Path, content: bytes) -> TableFiles:
    path.write_bytes(content)
    return open_table(str(path))


def test_all_forms_give_the_same_rows(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    packed = pa.compress(jsonl(ROWS), "zstd", asbytes=True)
    assert rows_of(open_table(str(tmp_path / "a.parquet"))) == ROWS
    assert rows_of(written(tmp_path / "a.jsonl", jsonl(ROWS))) == ROWS
    assert rows_of(written(tmp_path / "a.jsonl.zst", packed)) == ROWS
    assert rows_of(written(tmp_path / "a.tsv", tsv(ROWS))) == ROWS
    assert rows_of(written(tmp_path / "a.tsv.gz", gzip.compress(tsv(ROWS)))) == ROWS
    assert rows_of(written(tmp_path / "a.ndjson", b"\xef\xbb\xbf" + jsonl(ROWS)[:-1])) == ROWS


def test_a_run_has_columns_between_blanks(tmp_path: Path) -> None:
    content = b"1 Q0 d1  1\t0.5 tag\r\n\r\n  2\tQ0 d\xc3\xa9 2 0.25 tag  \n"
    assert [[*row.values()] for row in rows_of(written(tmp_path / "run", content))] == [
        ["1", "Q0", "d1", "1", "0.5", "tag"],
        ["2", "Q0", "d\u00e9", "2", "0.25", "tag"],
    ]


def test_files_without_a_header_have_numbered_columns(tmp_path: Path) -> None:
    (tmp_path / "top.tsv").write_bytes(b"1\t\ta\n2\tb\t\n")
    files = open_table(str(tmp_path / "top.tsv"), has_header=False)
    assert rows_of(files) == [{"0": "1", "1": "", "2": "a"}, {"0": "2", "1": "b", "2": ""}]
    assert rows_of(files, wanted=["1"]) == [{"1": ""}, {"1": "b"}]


def test_ids_of_numbers_and_texts_are_texts(tmp_path: Path) -> None:
    rows = [{"q": {"id": 1}, "c": [{"id": "a", "n": 1}]}, {"q": {"id": "x"}, "c": [{"id": 2**70, "n": None}]}]
    files = written(tmp_path / "a.jsonl", jsonl(rows))
    read = rows_of(files, ids=["q.id", "c.id"])
    assert [row["q"]["id"] for row in read] == ["1", "x"]
    assert [row["c"][0] for row in read] == [{"id": "a", "n": 1}, {"id": str(2**70), "n": None}]
    with pytest.raises(InputError, match="'q.id'"):
        rows_of(files)


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    content = jsonl(ROWS * 50) + b"\n" + b"{oops\n" + jsonl(ROWS)
    for piece_bytes in (1, 64, 1 << 20):
        with pytest.raises(InputError, match=r"a.jsonl, line 102 is not JSON"):
            rows_of(written(tmp_path / "a.jsonl", content), piece_bytes)


def test_columns_seen_are_those_of_a_sample(tmp_path: Path) -> None:
    seen = columns_seen(written(tmp_path / "a.jsonl", jsonl([{"a": 1, "b": [{"c": "x"}]}])))
    assert seen.names == ["a", "b"]
    assert columns_seen(written(tmp_path / "a.tsv", tsv(ROWS))).names == ["query_id", "query", "when"]


@fuzzed_by(100, 3_000)
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\n\t", codec="utf-8"), max_size=12), max_size=20),
    piece_bytes=st.integers(1, 40),
    is_ended=st.booleans(),
)
def test_every_line_is_in_one_piece(
    lines: list[str], piece_bytes: int, is_ended: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tsv"
    content = "\n".join(f"{at}\t{line}" for at, line in enumerate(lines)).encode()
    path.write_bytes(content + (b"\n" if is_ended and lines else b""))
    files = open_table(str(path), has_header=False)
    expected = [(str(at), line.removesuffix("\r")) for at, line in enumerate(lines)]
    if lines and not is_ended and lines[-1].endswith("\r"):
        return
    assert [tuple(row.values()) for row in rows_of(files, piece_bytes)] == expected
