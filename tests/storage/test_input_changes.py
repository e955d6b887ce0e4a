"""A file that is not the one the plan was made from is refused at every opening, whatever it holds now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from reranker_batch.config import Columns, InputConfig
from reranker_batch.core.units import FileIdentity
from reranker_batch.errors import InputError
from reranker_batch.storage.input.footers import check_pages, open_parquet
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.input.query_runs import KeyColumns, scan_queries

CHANGED = "f.parquet has changed since the plan was made"


def write(path: Path, texts: list[str], **more: pa.Array) -> None:
    columns = {"query_id": [f"q{at}" for at in range(len(texts))], "query": texts, "candidates": [[t] for t in texts]}
    pq.write_table(pa.table({**columns, **more}), path)


def same_rows(path: Path) -> None:
    write(path, ["ONE", "TWO"])


def more_rows(path: Path) -> None:
    write(path, ["one", "two", "three"])


def other_types(path: Path) -> None:
    pq.write_table(pa.table({"query": [[1], [2]], "candidates": [3, 4]}), path)


def other_format(path: Path) -> None:
    path.write_text("query,candidates\none,two\n")


def equal_copy(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES = [same_rows, more_rows, other_types, other_format, equal_copy]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_replaced_is_refused_and_not_tried_again(
    tmp_path: Path, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "f.parquet", ["one", "two"])
    config = InputConfig(path=str(tmp_path))
    plan = plan_input(config, unit_pairs="auto")
    [unit] = plan.units
    assert len(plan.source.read(unit).candidates) == 2
    change(tmp_path / "f.parquet")
    with pytest.raises(InputError, match=CHANGED):
        plan.source.read(unit)
    with pytest.raises(InputError, match=CHANGED):
        plan.source.read_whole(unit)
    assert "again in" not in caplog.text


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_replaced_while_the_plan_is_made_is_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    write(tmp_path / "f.parquet", ["one", "two"])
    config = InputConfig(path=str(tmp_path))
    [file] = plan_input(config, unit_pairs="auto").files
    filesystem, path = fs.LocalFileSystem(), str(tmp_path / "f.parquet")
    change(tmp_path / "f.parquet")
    with pytest.raises(InputError, match=CHANGED):
        scan_queries(filesystem, path, file.identity, KeyColumns(Columns(), {}, has_null_ids=False))
    with pytest.raises(InputError, match=CHANGED):
        check_pages(filesystem, path, file.identity)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / "f.parquet"
    write(path, ["one", "two"])
    write(tmp_path / "new", ["ONE", "TWO"])
    [file] = plan_input(InputConfig(path=str(path)), unit_pairs="auto").files

    def read_and_replace() -> None:
        with open_parquet(fs.LocalFileSystem(), str(path), file.identity) as opened:
            if in_place:
                path.write_bytes((tmp_path / "new").read_bytes() + b"longer")
            else:
                (tmp_path / "new").rename(path)
            opened.parquet.read()

    with pytest.raises(InputError, match=CHANGED):
        read_and_replace()


def test_what_differs_is_said(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    write(path, ["one", "two"])
    size = path.stat().st_size
    planned = FileIdentity(size + 1, None, "0" * 64)
    message = f"it had {size + 1:,} bytes and has {size:,}, its footer is another one"
    with pytest.raises(InputError, match=message), open_parquet(fs.LocalFileSystem(), str(path), planned):
        pass
