"""Folders whose files do not say by themselves which rows a table has."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from pyarrow import fs

from reranker_batch.errors import InputError
from reranker_batch.storage.filesystem import join
from reranker_batch.storage.walking import Entry, children, folders_above

_LOGS = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_METADATA = "metadata"
_ICEBERG = re.compile(r"\.metadata\.json(\.gz)?$")
_MARKS = re.compile(r"(?:(.*)/)?(?:(_delta_log|\.hoodie)(?:/.*)?|metadata/[^/]+\.metadata\.json(?:\.gz)?)", re.DOTALL)


def refuse_tables_in(entries: Iterable[Entry]) -> None:
    """Of a folder that has been walked.

    Raises:
        InputError: A folder is a table of Delta Lake, Iceberg or Hudi. Names it and what to do.
    """
    for entry in entries:
        if mark := _MARKS.fullmatch(entry.path):
            raise _refusal(mark[1] or "/", _LOGS.get(mark[2], "Iceberg"))


def refuse_tables_around(filesystem: fs.FileSystem, paths: Iterable[str]) -> None:
    """Of the folders that these files and folders lie in; what cannot be looked at is taken for none.

    Raises:
        InputError: As `refuse_tables_in`.
    """
    inside: dict[str, set[str]] = {}
    for path in paths:
        for folder in folders_above(path):
            inside.setdefault(folder, set()).add(path[len(folder) :].strip("/").partition("/")[0])
    with suppress(OSError, ValueError, NotImplementedError):
        for folder, kind in _tables_among(filesystem, inside):
            raise _refusal(folder, kind)


def _tables_among(filesystem: fs.FileSystem, inside: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """`inside` gives for each folder the names in it that are of interest; a folder `a=1` is a partition, no table."""
    folders = [folder for folder in sorted(inside) if "=" not in posixpath.basename(folder)]
    marks = [(folder, name) for folder in folders for name in (*_LOGS, _METADATA)]
    infos = filesystem.get_file_info([join(folder, name) for folder, name in marks])
    for (folder, name), info in zip(marks, infos, strict=True):
        if info.type != fs.FileType.Directory:
            continue
        if name in _LOGS:
            yield folder, _LOGS[name]
        elif "data" in inside[folder] and any(_ICEBERG.search(entry.path) for entry in children(filesystem, info.path)):
            yield folder, "Iceberg"


def _refusal(folder: str, kind: str) -> InputError:
    return InputError(
        f"{folder} is a table of {kind}. Its own log says which of its files and rows count, and that is not read, so "
        "rows that were deleted could be scored. Write its present rows to plain Parquet files and give that folder."
    )
