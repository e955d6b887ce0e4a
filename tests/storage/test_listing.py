"""Each file once, nothing that is no data, and a word on whatever is left out."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reranker_batch.config import InputConfig
from reranker_batch.errors import InputError
from reranker_batch.storage.input.listing import list_input
from reranker_batch.storage.input.planning import plan_input


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"query": [str(path)], "candidates": [["text"]]}), path)
    return path


def listed(path: Path | str) -> tuple[list[str], dict[str, str]]:
    listing = list_input(str(path))
    return [file.path for file in listing.files], dict(listing.left_out)


# --- links


def test_a_folder_that_leads_to_itself_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    (tmp_path / "again").symlink_to(".")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    files, left_out = listed(tmp_path)
    assert files == ["a.parquet"]
    assert left_out == dict.fromkeys(("again", "sub/up"), f"leads to the same folder as {tmp_path}")
    assert listed(f"{tmp_path}/**/*.parquet")[0] == ["a.parquet"]


def test_folders_full_of_links_to_each_other_are_walked_once(tmp_path: Path) -> None:
    folders = [tmp_path / f"f{number}" for number in range(12)]
    for folder in folders:
        write(folder / f"{folder.name}.parquet")
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(other)
    assert len(listed(tmp_path)[0]) == len(listed(f"{tmp_path}/f*")[0]) == 12


def test_of_several_links_the_own_path_wins_and_else_the_first(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "x.parquet")
    write(tmp_path / "in" / "z" / "own.parquet")
    for name in ("b", "a"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere")
        (tmp_path / "in" / f"{name}.parquet").symlink_to(tmp_path / "elsewhere" / "x.parquet")
    (tmp_path / "in" / "1.parquet").symlink_to("z/own.parquet")
    files, left_out = listed(tmp_path / "in")
    root = f"{tmp_path}/in"
    assert files == ["a.parquet", "z/own.parquet"]
    assert left_out == {
        "1.parquet": f"leads to the same file as {root}/z/own.parquet",
        "a/x.parquet": f"leads to the same file as {root}/a.parquet",
        "b": f"leads to the same folder as {root}/a",
        "b.parquet": f"leads to the same file as {root}/a.parquet",
    }
    assert listed(f"{root}/*.parquet")[0] == ["1.parquet", "a.parquet"]


def test_an_input_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    write(tmp_path / "real" / "sub" / "a.parquet")
    (tmp_path / "link").symlink_to("real")
    assert listed(tmp_path / "link") == (["sub/a.parquet"], {})
    assert listed(f"{tmp_path}/li*/**/*.parquet") == (["link/sub/a.parquet"], {})


def test_a_link_that_leads_nowhere_is_an_error_and_no_gap(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to("absent")
    (tmp_path / "c.parquet").symlink_to("c.parquet")
    with pytest.raises(InputError, match=r"(?s)b.parquet cannot be used.*c.parquet cannot be used"):
        plan_input(InputConfig(path=str(tmp_path)), unit_pairs="auto")


def test_what_is_neither_file_nor_folder_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    os.mkfifo(tmp_path / "b.parquet")
    assert listed(tmp_path) == (["a.parquet"], {"b.parquet": "neither a file nor a folder"})
    assert listed(f"{tmp_path}/*")[1] == {"b.parquet": "neither a file nor a folder"}
    with pytest.raises(InputError, match="neither a file nor a folder"):
        listed(tmp_path / "b.parquet")


def test_a_name_that_is_no_text_is_shown_and_refused(tmp_path: Path) -> None:
    path = os.fsencode(write(tmp_path / "a.parquet"))
    os.rename(path, path.replace(b"a.parquet", b"\xff.parquet"))
    with pytest.raises(InputError, match=r"\\xff.parquet: the name of this file or folder is not valid UTF-8"):
        listed(tmp_path)


# --- names


def test_leftovers_of_spark_are_no_data_and_its_partitions_are(tmp_path: Path) -> None:
    for name in ("part-0.snappy.parquet", "_load=2026-11-20/a.parquet", "x=1/_y=2/a.parquet"):
        write(tmp_path / name)
    for name in ("_SUCCESS", ".part-0.snappy.parquet.crc", "_committed_123", "_started_123"):
        (tmp_path / name).write_bytes(b"x")
    files, left_out = listed(tmp_path)
    assert files == ["_load=2026-11-20/a.parquet", "part-0.snappy.parquet", "x=1/_y=2/a.parquet"]
    assert left_out == {}
    assert listed(f"{tmp_path}/*/*.parquet")[0] == ["_load=2026-11-20/a.parquet"]


def test_hidden_data_is_left_out_with_a_word(tmp_path: Path) -> None:
    for name in ("a.parquet", "_old.parquet", "_temporary/0/b.parquet", ".snapshot/a.parquet"):
        write(tmp_path / name)
    assert listed(tmp_path) == (
        ["a.parquet"],
        dict.fromkeys([".snapshot", "_old.parquet", "_temporary"], "hidden by its name"),
    )


def test_files_without_a_suffix_are_read_where_they_are_parquet(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    for name in ("000001_0", "20261120_1_abc", "part-0.c000", "b.parq"):
        write(tmp_path / name)
    (tmp_path / "README").write_text("read me")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "000002_0").write_bytes(b"")
    files, left_out = listed(tmp_path)
    assert files == ["000001_0", "20261120_1_abc", "a.parquet", "b.parq", "part-0.c000"]
    assert left_out == {
        "000002_0": "empty",
        "README": "does not begin like Parquet",
        "notes.txt": "no Parquet by its name",
    }


def test_a_truncated_file_without_a_suffix_is_an_error_and_no_gap(tmp_path: Path) -> None:
    path = write(tmp_path / "000001_0")
    path.write_bytes(path.read_bytes()[:-20])
    write(tmp_path / "000002_0")
    with pytest.raises(InputError, match="000001_0 cannot be used: it does not end like a Parquet file"):
        plan_input(InputConfig(path=str(tmp_path)), unit_pairs="auto")


def test_what_is_left_out_is_in_the_plan_and_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.parquet")
    for number in range(5):
        (tmp_path / f"{number}.csv").write_text("x")
    plan = plan_input(InputConfig(path=str(tmp_path)), unit_pairs="auto")
    assert plan.left_out == {f"{number}.csv": "no Parquet by its name" for number in range(5)}
    [line] = plan.warnings
    assert "0.csv (no Parquet by its name), 1.csv" in line
    assert line.endswith("and 2 more.")
    assert caplog.messages == [line]


# --- tables


def mark(folder: Path, kind: str) -> None:
    name = {"Delta": "_delta_log/0.json", "Hudi": ".hoodie/hoodie.properties", "Iceberg": "metadata/v1.metadata.json"}[
        kind
    ]
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("{}")


@pytest.mark.parametrize("kind", ["Delta", "Hudi", "Iceberg"])
@pytest.mark.parametrize("asked", ["", "table", "table/data", "table/data/day=1", "table/**/*.parquet", "table/data/*"])
def test_a_table_whose_log_says_which_rows_count_is_refused(tmp_path: Path, kind: str, asked: str) -> None:
    write(tmp_path / "table" / "data" / "day=1" / "a.parquet")
    mark(tmp_path / "table", kind)
    with pytest.raises(InputError, match=rf"{tmp_path}/table is a table of {kind}.*plain Parquet"):
        listed(f"{tmp_path}/{asked}")
    assert listed(tmp_path / "table/data/day=1/a.parquet")[0] == ["a.parquet"]


def test_a_folder_called_metadata_makes_no_table(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet")
    write(tmp_path / "in" / "metadata" / "b.parquet")
    mark(tmp_path, "Iceberg")
    assert listed(tmp_path / "in")[0] == ["a.parquet", "metadata/b.parquet"]


def test_a_table_in_a_store_is_refused_too() -> None:
    base = f"memory://{uuid.uuid4().hex}"
    store = fsspec.filesystem("memory")
    for name in ("t/a.parquet", "t/_delta_log/0.json", "plain/_load=1/a.parquet", "plain/_SUCCESS", "plain/x.csv"):
        store.pipe_file(f"{base}/{name}", b"PAR1")
    for asked in ("", "/t", "/t/*.parquet"):
        with pytest.raises(InputError, match="/t is a table of Delta"):
            listed(base + asked)
    assert listed(f"{base}/plain") == (["_load=1/a.parquet"], {"x.csv": "no Parquet by its name"})
