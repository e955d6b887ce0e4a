"""Folders whose files do not say by themselves which rows a table has."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pyarrow import fs

from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.files.filesystem import join
from reranker_batch.storage.files.walking import Entry, children, folders_above

Kind = Literal["Delta Lake", "Iceberg", "Hudi"]
Names = tuple[str, ...]
"""The name of a column, and of the fields in it down to one of them."""

PLAIN = "Or write its present rows to plain Parquet files and give that folder."
_LOGS: Mapping[str, Kind] = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_METADATA = "metadata"
_ICEBERG = re.compile(r"\.metadata\.json(\.gz)?$")
_MARKS = re.compile(r"(?:(.*)/)?(?:(_delta_log|\.hoodie)(?:/.*)?|metadata/[^/]+\.metadata\.json(?:\.gz)?)", re.DOTALL)


@dataclass(frozen=True)
class FieldNames:
    """What columns, and fields in them, are called now."""

    by_id: Mapping[int, Names]
    never_changed: bool
    """Whether no column that the table knows of had another name, or its name another column."""


@dataclass(frozen=True)
class TableFiles:
    """The files that a table has now, by its own list: size in bytes by path below its folder."""

    folder: str
    kind: Kind
    sizes: Mapping[str, int]
    field_names: FieldNames | None = None
    """None: the files go by names."""


def table_kind(filesystem: fs.FileSystem, folder: str) -> Kind | None:
    """The table that a folder is; None where it is none."""
    names = {posixpath.basename(entry.path.rstrip("/")): entry for entry in children(filesystem, folder)}
    for name, kind in _LOGS.items():
        if name in names and names[name].kind == "folder":
            return kind
    if _METADATA in names and metadata_files(filesystem, folder):
        return "Iceberg"
    return None


def metadata_files(filesystem: fs.FileSystem, folder: str) -> list[str]:
    """The files of an Iceberg table that describe one of its states each."""
    entries = children(filesystem, join(folder, _METADATA))
    return [entry.path for entry in entries if is_metadata_file(entry.path) and entry.kind == "file"]


def is_metadata_file(path: str) -> bool:
    """Whether a file is named as one that describes a state of an Iceberg table."""
    return _ICEBERG.search(path) is not None and posixpath.basename(posixpath.dirname(path)) == _METADATA


def refuse_tables_in(entries: Iterable[Entry]) -> None:
    """Of a folder that has been walked and is no table itself.

    Raises:
        InputError: A folder is a table of Delta Lake, Iceberg or Hudi. Names it and what to do.
    """
    for entry in entries:
        if mark := _MARKS.fullmatch(entry.path):
            raise not_the_table(mark[1] or "/", _LOGS.get(mark[2], "Iceberg"))


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
            raise not_the_table(folder, kind)


def _tables_among(filesystem: fs.FileSystem, inside: Mapping[str, set[str]]) -> Iterator[tuple[str, Kind]]:
    """`inside` gives for each folder the names in it that are of interest; a folder `a=1` is a partition, no table."""
    folders = [folder for folder in sorted(inside) if "=" not in posixpath.basename(folder)]
    marks = [(folder, name) for folder in folders for name in (*_LOGS, _METADATA)]
    infos = filesystem.get_file_info([join(folder, name) for folder, name in marks])
    for (folder, name), info in zip(marks, infos, strict=True):
        if info.type != fs.FileType.Directory:
            continue
        if name in _LOGS:
            yield folder, _LOGS[name]
        elif "data" in inside[folder] and metadata_files(filesystem, folder):
            yield folder, "Iceberg"


def not_the_table(folder: str, kind: Kind) -> InputError:
    """The error for an input that is part of a table, holds one, or is one whose list of files cannot be read."""
    if kind == "Hudi":
        return refusal(folder, kind, "Its own log says which of its files and rows count, and that is not read")
    return refusal(
        folder,
        kind,
        "Its own log says which of its files and rows count, so it is read as a whole: give that very folder as "
        "input.path",
    )


def refusal(folder: str, kind: Kind, reason: str) -> InputError:
    """The error for a table that cannot be read by its files."""
    return InputError(f"{folder} is a table of {kind}. {reason.rstrip('.')}. {PLAIN}")


def missing_extra(folder: str, kind: Kind, extra: str) -> ConfigError:
    """The error for a table whose library is not installed."""
    return ConfigError(
        f"{folder} is a table of {kind}, which needs the extra {extra!r}: pip install 'reranker-batch[{extra}]'. "
        f"{PLAIN}"
    )
