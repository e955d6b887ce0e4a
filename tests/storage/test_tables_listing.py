"""The files of a table: by their names, else by how they begin; of one form, and never another file than listed."""

from __future__ import annotations

import gzip
import json
import os
import uuid
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_tables import jsonl, read, rows_of, written

from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import columns_seen, read_piece
from reranker_batch.storage.tables.table_files import open_table

ROWS = [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]
LINES = jsonl(ROWS)


def files_of(tmp_path: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_a_folder_is_its_files_of_rows_and_a_word_on_the_others(tmp_path: Path) -> None:
    folder = files_of(
        tmp_path,
        {
            "day=1/a.jsonl": LINES,
            "_load=2/b.ndjson.gz": gzip.compress(LINES),
            "c": LINES,
            "d": gzip.compress(LINES),
            "e.part": pa.compress(LINES, "zstd", asbytes=True),
            "_SUCCESS": b"",
            ".a.jsonl.crc": b"crc",
            "a.jsonl.crc": b"crc",
            "_old.jsonl": LINES,
            "README.md": b"# rows, and more",
            "LICENSE": b"Permission, granted",
            "load.py": b"import, x",
            "notes.txt": b"a\tb",
            "stats.json": b'{\n"rows": 2\n}',
            "empty": b"",
        },
    )
    files = open_table(str(folder))
    assert files.form == "jsonl"
    assert [file.path for file in files.files] == ["_load=2/b.ndjson.gz", "c", "d", "day=1/a.jsonl", "e.part"]
    assert [file.compression for file in files.files] == ["gzip", "none", "gzip", "none", "zstd"]
    assert rows_of(files, wanted=["id", "text"]) == ROWS * 5
    assert files.left_out == {
        "LICENSE": "does not begin like data",
        "README.md": "no data by its name",
        "_old.jsonl": "hidden by its name",
        "a.jsonl.crc": "no data by its name",
        "empty": "empty",
        "load.py": "no data by its name",
        "notes.txt": "no data by its name",
        "stats.json": "one JSON object, where other files hold rows",
    }


def test_files_of_several_forms_are_refused_by_name(tmp_path: Path) -> None:
    folder = files_of(tmp_path, {"a.jsonl": LINES, "b.csv": b"id,text\n1,x\n", "c.csv": b"id,text\n"})
    with pytest.raises(InputError, match=r"several forms: b.csv is csv, a.jsonl is jsonl. .* check corpus.path"):
        open_table(str(folder), key="corpus.path")
    assert [file.path for file in open_table(f"{folder}/*.csv").files] == ["b.csv", "c.csv"]
    chosen = open_table(str(folder), form="csv")
    assert [file.path for file in chosen.files] == ["b.csv", "c.csv"]
    assert chosen.left_out == {"a.jsonl": "no csv by its name"}
    files_of(tmp_path, {"d.json": json.dumps(ROWS).encode()})
    with pytest.raises(InputError, match="d.json is json"):
        open_table(f"{folder}/*.json*")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("b.jsonl.bz2", "packed by bzip2, which is not read: unpack it"),
        ("day=1/b.csv.xz", "packed by xz"),
        ("b.arrow", "an Arrow file, which is not read: write it as Parquet"),
        ("b.orc", "an ORC file"),
    ],
)
def test_rows_that_are_not_read_are_not_left_out_next_to_others(tmp_path: Path, name: str, what: str) -> None:
    folder = files_of(tmp_path, {"a.jsonl": LINES, name: b"rows"})
    with pytest.raises(InputError, match=f"holds {name}, {what}.*check input.path"):
        open_table(str(folder))
    with pytest.raises(InputError, match=f"{name.rpartition('/')[2]} is {what}"):
        open_table(str(folder / name))
    (folder / "a.jsonl").unlink()
    with pytest.raises(InputError, match=f"holds no data file.*{name} .{what}"):
        open_table(str(folder))


def test_an_archive_may_lie_next_to_what_it_had_in_it(tmp_path: Path) -> None:
    folder = files_of(tmp_path, {"a.jsonl": LINES, "a.jsonl.zip": b"PK", "all.tar": b"a.jsonl"})
    assert [file.path for file in open_table(str(folder)).files] == ["a.jsonl"]
    assert [*open_table(str(folder)).left_out] == ["a.jsonl.zip", "all.tar"]


def test_a_file_of_one_line_is_of_the_form_of_the_others(tmp_path: Path) -> None:
    row = jsonl([{"m": {"a": 1}}])
    folder = files_of(tmp_path, {"a.json": row, "b.json": row * 2, "c.json": b""})
    assert open_table(str(folder)).form == "jsonl"
    assert rows_of(open_table(str(folder))) == [{"m": {"a": 1}}] * 3


def test_an_empty_file_is_of_the_form_of_the_others(tmp_path: Path) -> None:
    array = json.dumps(ROWS).encode()
    for name, content in {"b.json": array, "b.csv": b"id,text\n1,x\n2,y\n"}.items():
        folder = files_of(tmp_path / name, {"a.json": b"\n", name: content})
        assert rows_of(open_table(str(folder))) == ROWS


def test_json_lines_are_told_from_a_document_whatever_the_length_of_a_line(tmp_path: Path) -> None:
    long = [{"text": "x" * 300_000}, {"text": "y"}]
    for name, content in (("a.json", jsonl(long)), ("b.json.gz", gzip.compress(jsonl(long)))):
        assert written(tmp_path / name, content).form == "jsonl"
    assert written(tmp_path / "c.json", json.dumps(long, indent=1).encode()).form == "json"


def test_a_form_that_is_asked_for_wins_over_names(tmp_path: Path) -> None:
    content = b"q1\tQ0\td1\t1\t0.5\ttag\n"
    path = files_of(tmp_path, {"run.tsv": content, "more.txt": content, "third": content, "LICENSE": b"text"})
    assert open_table(str(path / "run.tsv"), form="trec").form == "trec"
    files = open_table(str(path), form="tsv", has_header=False)
    assert [file.path for file in files.files] == ["more.txt", "run.tsv"]
    assert files.left_out == {"LICENSE": "does not begin like tsv", "third": "does not begin like tsv"}
    assert [file.path for file in open_table(str(path), form="trec").files] == ["more.txt", "third"]


def test_a_file_of_unknown_form_is_refused_by_name(tmp_path: Path) -> None:
    for content in (b"hello\n", "a\tb\n".encode("utf-16"), b"\x00\x01,\n"):
        with pytest.raises(InputError, match="rows.dat is of no known form.*suffix such as .tsv"):
            written(tmp_path / "rows.dat", content)
    with pytest.raises(InputError, match="does not exist. Check queries.path"):
        open_table(str(tmp_path / "absent"), key="queries.path")
    with pytest.raises(ConfigError, match="credentials"):
        open_table("s3://user:secret@bucket/rows.jsonl")


def test_the_table_of_the_package_is_read() -> None:
    files = open_table("builtin:demo")
    assert files.form == "parquet"
    assert columns_seen(files).names[:2] == ["query_id", "query"]
    assert sum(len(rows.table) for rows in read(files)) > 0


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv", "a.json"])
def test_rows_in_a_store_are_read_by_pieces(name: str) -> None:
    base = f"memory://{uuid.uuid4().hex}"
    content = {"csv": b"id,text\n1,x\n2,y\n", "tsv": b"id\ttext\n1\tx\n2\ty\n", "json": json.dumps(ROWS).encode()}
    plain = content.get(name.rpartition(".")[2], LINES)
    fsspec.filesystem("memory").pipe_file(f"{base}/{name}", gzip.compress(plain) if name.endswith("gz") else plain)
    assert rows_of(open_table(base), 5) == ROWS


# --- damage and change


def test_a_truncated_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    content = LINES * 5_000
    for name, packed in (
        ("a.jsonl.gz", gzip.compress(content)),
        ("a.jsonl.zst", pa.compress(content, "zstd", asbytes=True)),
    ):
        for damaged in (packed[:-1], packed[: len(packed) // 2], packed + packed[:-3], packed + b"garbage", b""):
            with pytest.raises(InputError, match=f"{name} cannot be read as (gzip|zstd): "):
                rows_of(written(tmp_path / name, damaged))
    (tmp_path / "rows").write_bytes(gzip.compress(content)[:-1])
    with pytest.raises(InputError, match="rows cannot be read as gzip: Truncated"):
        rows_of(open_table(str(tmp_path / "rows")))


def test_a_name_that_claims_a_compression_is_taken_at_its_word(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a.jsonl.gz cannot be read as gzip"):
        rows_of(written(tmp_path / "a.jsonl.gz", LINES))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.json", "a.jsonl.gz", "a.parquet"])
def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(gzip.compress(LINES) if name.endswith("gz") else LINES)
    files = open_table(str(path), form="jsonl" if "json" in name else "auto")
    [piece] = pieces(files)
    os.utime(path, ns=(1, (files.files[0].modified_ns or 0) + 10**10))
    with pytest.raises(InputError, match=f"{name} has changed since .*: it was written again at another time"):
        [*read_piece(files, piece)]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{name} has changed since"):
        [*read_piece(files, piece)]
    path.unlink()
    with pytest.raises(InputError, match=name):
        [*read_piece(files, piece)]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files = written(path, LINES)
    reading = read_piece(files, pieces(files)[0])
    next(reading)
    path.write_bytes(LINES + LINES)
    with pytest.raises(InputError, match=r"a.jsonl has changed since it was listed: it had 50 bytes and has 100"):
        list(reading)


def test_the_identity_of_a_table_is_that_of_its_files(tmp_path: Path) -> None:
    files = written(tmp_path / "a.jsonl", LINES)
    status = (tmp_path / "a.jsonl").stat()
    assert files.identity() == {"a.jsonl": {"size_bytes": status.st_size, "modified_ns": status.st_mtime_ns}}


# --- partitions


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.json", "a.parquet"])
def test_folders_of_partitions_are_columns_where_the_file_has_none(tmp_path: Path, name: str) -> None:
    contents = {"csv": b"id,text\n1,x\n2,y\n", "tsv": b"id\ttext\n1\tx\n2\ty\n", "json": json.dumps(ROWS).encode()}
    folder = tmp_path / "day=2026-11-20" / "at=a%3Ab" / "none=__HIVE_DEFAULT_PARTITION__" / "text=other"
    folder.mkdir(parents=True)
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), folder / name)
    else:
        (folder / name).write_bytes(contents.get(name.rpartition(".")[2], LINES))
    files = open_table(str(tmp_path))
    more = {"day": "2026-11-20", "at": "a:b", "none": None}
    assert rows_of(files) == [{**row, **more} for row in ROWS]
    assert rows_of(files, wanted=["day", "id"]) == [{"id": row["id"], "day": "2026-11-20"} for row in ROWS]
    assert columns_seen(files).names == ["id", "text", *more]
    assert rows_of(open_table(str(tmp_path / "day=2026-11-20"))) == rows_of(files)


def test_a_partition_fills_only_rows_of_json_that_lack_its_name(tmp_path: Path) -> None:
    folder = files_of(tmp_path, {"day=1/a.jsonl": b'{"day": "own"}\n{"id": 2}\n'})
    assert rows_of(open_table(str(folder)), wanted=["day"]) == [{"day": "own"}, {"day": "1"}]


# --- bad files


def test_files_that_cannot_be_opened_are_skipped_where_that_is_asked_for(tmp_path: Path) -> None:
    contents = {
        "bad.jsonl": "{}".encode("utf-16"),
        "bad.jsonl.gz": LINES,
        "bad.jsonl.zst": b"",
        "cut.jsonl.gz": gzip.compress(LINES)[:5],
        "empty.jsonl.gz": gzip.compress(b""),
        "good.jsonl": LINES,
    }
    folder = files_of(tmp_path, contents)
    files = open_table(str(folder), skip_bad=True)
    assert [file.path for file in files.files] == ["empty.jsonl.gz", "good.jsonl"]
    assert files.skipped == {
        "bad.jsonl": "bad.jsonl is UTF-16. Write it as UTF-8.",
        "bad.jsonl.gz": "bad.jsonl.gz cannot be read as gzip.",
        "bad.jsonl.zst": "bad.jsonl.zst cannot be read as zstd.",
        "cut.jsonl.gz": "cut.jsonl.gz cannot be read as gzip.",
    }
    assert rows_of(files) == ROWS
    assert len(open_table(str(folder)).files) == len(contents)
    with pytest.raises(InputError, match=r"no file that can be used. bad.jsonl \(bad.jsonl is UTF-16"):
        open_table(f"{folder}/bad*", skip_bad=True)


def test_parquet_that_cannot_be_opened_is_skipped_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    files = open_table(str(tmp_path), skip_bad=True)
    assert rows_of(files) == ROWS
    assert [*files.skipped] == ["b.parquet"]
    with pytest.raises(InputError, match="b.parquet cannot be used: it does not end like a Parquet file"):
        rows_of(open_table(str(tmp_path)))
