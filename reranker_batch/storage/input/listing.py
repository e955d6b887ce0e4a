"""Which files an input path means, and which it leaves out."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pyarrow import fs

from reranker_batch.errors import ConfigError, InputError, first_line
from reranker_batch.storage.files.filesystem import absolute, is_builtin, join, resolve
from reranker_batch.storage.files.globbing import has_glob, matches, split_glob
from reranker_batch.storage.files.walking import Entry, Tree, is_hidden, relative, single, walk, without_repeats
from reranker_batch.storage.input.delta import delta_files
from reranker_batch.storage.input.footers import ENCRYPTED_MAGIC, MAGIC
from reranker_batch.storage.input.iceberg import iceberg_files
from reranker_batch.storage.input.table_formats import (
    TableFiles,
    is_metadata_file,
    not_the_table,
    refusal,
    refuse_tables_around,
    refuse_tables_in,
    table_kind,
)
from reranker_batch.storage.input.unread import unread
from reranker_batch.uris import BUILTIN, is_uri, split_options

OTHER_SUFFIXES = (
    *(".csv", ".tsv", ".txt", ".md", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".xml", ".html", ".log", ".crc"),
    *(".orc", ".avro", ".arrow", ".feather", ".ipc", ".lance", ".gz", ".bz2", ".zst", ".zip", ".tar", ".py", ".sql"),
)
_PROBE_THREADS = 16
_SHOWN_FILES = 3
_NO_FILE = "neither a file nor a folder"
_OWN_MARKS = ("_missing.parquet",)
"""What a preparation leaves in a folder of its input."""


Begins = Callable[[fs.FileSystem, str], bool]


@dataclass(frozen=True)
class DataFiles:
    """Which files of a folder are data."""

    shown: str
    """For messages, as in "holds no Parquet file"."""
    suffixes: tuple[str, ...]
    """Of the files that are data by their names."""
    begins: Begins
    """Whether a file of no known suffix begins like data."""
    others: tuple[str, ...] = OTHER_SUFFIXES
    """Known suffixes of files that are no data."""

    def is_named(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes)


def _begins_like_parquet(filesystem: fs.FileSystem, path: str) -> bool:
    with filesystem.open_input_stream(path) as source:
        return source.read(len(MAGIC)) in (MAGIC, ENCRYPTED_MAGIC)


PARQUET = DataFiles("Parquet", (".parquet", ".pq"), _begins_like_parquet)


@dataclass(frozen=True)
class ListedFile:
    """A file by its path below the root of the input."""

    path: str
    size_bytes: int
    """0 where the store does not tell."""
    modified_ns: int | None
    """Unlike the size, not known on every store."""


@dataclass(frozen=True)
class Listing:
    """The files of an input, sorted by path. `resolve(root)` and a file's path lead to it from any process."""

    root: str
    files: tuple[ListedFile, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files and folders that were there and are not read, by path, each with the reason. The marks that jobs leave in
    their output, such as `_SUCCESS`, are not among them."""
    table: TableFiles | None = None
    """The table whose own list these files are."""
    is_prepared: bool = False
    """Whether this program has prepared the files, so that they hold all columns."""

    @property
    def has_partitions(self) -> bool:
        """Whether names of folders are columns. Those of Iceberg mean nothing: its files hold the columns."""
        return not self.is_prepared and (self.table is None or self.table.kind != "Iceberg")


def list_input(path_or_uri: str, data: DataFiles = PARQUET, *, key: str = "input.path") -> Listing:
    """All files that a file, folder, glob or URI means, each once, whatever links lead to it.

    Of a folder that is every file at any depth with a suffix of `data`, such as `*.parquet`, and every file of no known
    suffix that begins like one, as Hive and Athena write them. Names that begin with `.`, or with `_` and have no `=`,
    are left out, as Spark and Hive do with their own leftovers. Of a table of Delta Lake or Iceberg it is what the
    table lists as its own. A glob takes what it matches, whatever its suffix. What exists under the very name wins over
    what the name matches as a pattern. `key` is the config key for messages.

    Raises:
        InputError: Nothing is there, or it is a table whose files alone do not say which rows it has.
        ConfigError: See `resolve`; or the table needs an extra that is not installed.
    """
    place = absolute(path_or_uri)
    try:
        listing = _list_exact(place, data, key) or _list_glob(place, data, key)
    except (OSError, ValueError) as error:
        raise InputError(f"{path_or_uri} cannot be listed: {first_line(error)}. Check {key}.") from error
    if listing is None:
        raise InputError(f"{path_or_uri} does not exist. Check {key}{_relative_hint(path_or_uri)}.")
    if not listing.files:
        more = f" Left out: {shown_left_out(listing.left_out)}." if listing.left_out else ""
        raise InputError(f"{path_or_uri} holds no {data.shown} file. Check {key}.{more}")
    return listing


def shown_left_out(left_out: Mapping[str, str]) -> str:
    """The first few, and how many more."""
    shown = ", ".join(f"{path} ({reason})" for path, reason in list(left_out.items())[:_SHOWN_FILES])
    return shown + (f" and {len(left_out) - _SHOWN_FILES:,} more" if len(left_out) > _SHOWN_FILES else "")


def _list_exact(place: str, data: DataFiles, key: str) -> Listing | None:
    try:
        filesystem, path = resolve(place)
    except ConfigError:
        if has_glob(place):
            return None
        raise
    entry = single(filesystem, path)
    if entry is None:
        return None
    if entry.kind == "other":
        raise InputError(f"{place} is neither a file nor a folder. Check {key}.")
    if entry.kind == "file":
        if is_metadata_file(path):
            return _table(_parent(_parent(place)), iceberg_files(filesystem, _folder_of_table(path), path), data)
        return Listing(_parent(place), (_listed(entry, posixpath.dirname(path)),))
    refuse_tables_around(filesystem, [path])
    kind = table_kind(filesystem, path)
    if kind == "Hudi":
        raise not_the_table(path, kind)
    if kind is not None:
        return _table(place, (delta_files if kind == "Delta Lake" else iceberg_files)(filesystem, path), data)
    return _listing(filesystem, place, path, _data_below(filesystem, path, data))


def _folder_of_table(metadata_file: str) -> str:
    return posixpath.dirname(posixpath.dirname(metadata_file))


def _table(root: str, table: TableFiles, data: DataFiles) -> Listing:
    """Times of files are not asked for: a table never writes a file a second time.

    Only who reads Parquet and nothing else compares the ids of columns.
    """
    if data is not PARQUET and table.field_names and not table.field_names.never_changed:
        raise refusal(table.folder, table.kind, "A column of it was renamed, or dropped and added again")
    files = tuple(ListedFile(path, size, None) for path, size in sorted(table.sizes.items()))
    return Listing(root, files, table=table)


def _list_glob(place: str, data: DataFiles, key: str) -> Listing | None:
    if is_builtin(place) or not has_glob(place):
        return None
    root, pattern = split_glob(place)
    filesystem, path = resolve(root)
    matched = matches(filesystem, path, pattern)
    refuse_tables_around(filesystem, [entry.path for entry in matched.entries])
    folders = [_data_below(filesystem, entry.path, data) for entry in matched.entries if entry.kind == "folder"]
    left_out = {entry.path: _NO_FILE for entry in matched.entries if entry.kind == "other"} | matched.left_out
    named = Tree([entry for entry in matched.entries if entry.kind == "file"], left_out)
    listing = _listing(filesystem, root, path, named, *folders)
    if not listing.files:
        raise InputError(f"{place} matches no file. Check {key}.")
    return listing


def _listing(filesystem: fs.FileSystem, root: str, path: str, *trees: Tree) -> Listing:
    entries = {entry.path: entry for tree in trees for entry in tree.entries}
    left_out = {name: reason for tree in trees for name, reason in tree.left_out.items() if name not in entries}
    tree = without_repeats(filesystem, path, entries.values())
    files = sorted((_listed(entry, path) for entry in tree.entries), key=lambda file: file.path)
    reasons = {relative(name, path): reason for name, reason in (left_out | tree.left_out).items()}
    return Listing(root, tuple(files), dict(sorted(reasons.items())))


def _data_below(filesystem: fs.FileSystem, folder: str, data: DataFiles) -> Tree:
    """The data files of a folder at any depth."""
    tree = walk(filesystem, folder, into_hidden=False)
    refuse_tables_in(tree.entries)
    sure: list[Entry] = []
    unsure: list[Entry] = []
    left_out = dict(tree.left_out)
    for entry in tree.entries:
        name = relative(entry.path, folder)
        if is_hidden(name):
            left_out |= _hidden(entry, name, folder, data)
        elif entry.kind != "folder" and (reason := _reason_to_leave_out(entry, data)):
            left_out[entry.path] = reason
        elif entry.kind == "file":
            (sure if data.is_named(name) else unsure).append(entry)
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        is_data = list(pool.map(lambda entry: _begins_like_data(filesystem, entry.path, data), unsure))
    sure += [entry for entry, is_right in zip(unsure, is_data, strict=True) if is_right]
    others = [entry for entry, is_right in zip(unsure, is_data, strict=True) if not is_right]
    reasons = {entry.path: unread(entry.path) or f"does not begin like {data.shown}" for entry in others}
    return Tree(sure, left_out | reasons)


def _hidden(entry: Entry, name: str, folder: str, data: DataFiles) -> dict[str, str]:
    """A hidden folder stands for all that lies in it; of hidden files only data is worth a word."""
    parts = name.split("/")
    depth = next(at for at, part in enumerate(parts, start=1) if is_hidden(part))
    is_mark = not data.is_named(name) or parts[-1] in _OWN_MARKS
    if depth == len(parts) and entry.kind != "folder" and is_mark:
        return {}
    return {join(folder, *parts[:depth]): "hidden by its name"}


def _reason_to_leave_out(entry: Entry, data: DataFiles) -> str | None:
    if entry.kind == "other":
        return _NO_FILE
    if data.is_named(entry.path):
        return None
    if entry.path.lower().endswith(data.others):
        return unread(entry.path) or f"no {data.shown} by its name"
    if entry.size_bytes == 0:
        return "empty"
    return None


def _begins_like_data(filesystem: fs.FileSystem, path: str, data: DataFiles) -> bool:
    """A link that leads nowhere does not."""
    try:
        return data.begins(filesystem, path)
    except FileNotFoundError:
        return False


def _parent(place: str) -> str:
    if is_builtin(place):
        return BUILTIN
    plain, options = split_options(place)
    parent = posixpath.dirname(plain.rstrip("/"))
    return (parent if not is_uri(place) or "://" in parent else plain.partition("://")[0] + "://") + options


def _listed(entry: Entry, root: str) -> ListedFile:
    return ListedFile(relative(entry.path, root), entry.size_bytes or 0, entry.modified_ns)


def _relative_hint(path_or_uri: str) -> str:
    path = absolute(path_or_uri)
    return "" if path == path_or_uri else f" (looked at {path})"
