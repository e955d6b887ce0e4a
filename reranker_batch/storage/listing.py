"""Which files an input path means."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs

from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.filesystem import absolute, is_builtin, resolve
from reranker_batch.storage.footers import first_line
from reranker_batch.storage.globs import has_glob, is_hidden, matcher, split_glob
from reranker_batch.uris import is_uri, split_options

_SUFFIXES = (".parquet", ".pq")


@dataclass(frozen=True)
class ListedFile:
    """A file by its path below the root of the input."""

    path: str
    size_bytes: int
    modified_ns: int | None
    """Unlike the size, not known on every store."""


@dataclass(frozen=True)
class Listing:
    """The files of an input, sorted by path. `resolve(root)` and a file's path lead to it from any process."""

    root: str
    files: tuple[ListedFile, ...]


def list_input(path_or_uri: str) -> Listing:
    """All files that a file, folder, glob or URI means.

    Of a folder that is every `*.parquet` and `*.pq` at any depth; names that begin with `_` or `.` are left
    out, as Spark and Hive do with their own leftovers. A glob takes what it matches, whatever its suffix. What
    exists under the very name wins over what the name matches as a pattern.

    Raises:
        InputError: Nothing is there.
        ConfigError: See `resolve`.
    """
    place = absolute(path_or_uri)
    try:
        listing = _list_exact(place) or _list_glob(place)
    except OSError as error:
        raise InputError(f"{path_or_uri} cannot be listed: {first_line(error)}. Check input.path.") from error
    if listing is None:
        raise InputError(f"{path_or_uri} does not exist. Check input.path{_relative_hint(path_or_uri)}.")
    if not listing.files:
        raise InputError(f"{path_or_uri} holds no *.parquet or *.pq file. Check input.path.")
    return listing


def _list_exact(place: str) -> Listing | None:
    try:
        filesystem, path = resolve(place)
    except ConfigError:
        if has_glob(place):
            return None
        raise
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return Listing(_parent(place), (_listed(info, posixpath.dirname(path)),))
    if info.type == fs.FileType.Directory:
        return Listing(place, tuple(_files_below(filesystem, path, path)))
    return None


def _list_glob(place: str) -> Listing | None:
    if is_builtin(place) or not has_glob(place):
        return None
    root, pattern = split_glob(place)
    filesystem, path = resolve(root)
    matches = matcher(pattern)
    depth = None if "**" in pattern else pattern.count("/") + 1
    found = {
        file.path: file
        for info in _walk(filesystem, path, depth, pattern)
        if matches(_relative(info.path, path))
        for file in _expand(filesystem, info, path)
    }
    if not found:
        raise InputError(f"{place} matches no file. Check input.path.")
    return Listing(root, tuple(found[name] for name in sorted(found)))


def _expand(filesystem: fs.FileSystem, info: fs.FileInfo, root: str) -> Iterator[ListedFile]:
    """A matched folder stands for the files in it."""
    if info.type == fs.FileType.Directory:
        yield from _files_below(filesystem, info.path, root)
    else:
        yield _listed(info, root)


def _files_below(filesystem: fs.FileSystem, folder: str, root: str) -> list[ListedFile]:
    infos = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    files = [
        _listed(info, root)
        for info in infos
        if info.type == fs.FileType.File
        and info.path.lower().endswith(_SUFFIXES)
        and not is_hidden(_relative(info.path, folder))
    ]
    return sorted(files, key=lambda file: file.path)


def _walk(filesystem: fs.FileSystem, path: str, depth: int | None, pattern: str) -> Iterator[fs.FileInfo]:
    """Everything that the pattern can reach; hidden names only where the pattern asks for them."""
    wants_hidden = is_hidden(pattern)
    selector = fs.FileSelector(path, recursive=depth is None, allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        if not wants_hidden and is_hidden(_relative(info.path, path)):
            continue
        if depth is not None and depth > 1 and info.type == fs.FileType.Directory:
            yield from _walk(filesystem, info.path, depth - 1, pattern)
        elif depth is None or depth == 1:
            yield info


def _parent(place: str) -> str:
    if is_builtin(place):
        return "builtin:"
    plain, options = split_options(place)
    parent = posixpath.dirname(plain.rstrip("/"))
    return (parent if not is_uri(place) or "://" in parent else plain.partition("://")[0] + "://") + options


def _relative(path: str, root: str) -> str:
    """Some filesystems lead paths with a slash where the root has none, or the other way round."""
    return path.strip("/").removeprefix(root.strip("/")).lstrip("/")


def _listed(info: fs.FileInfo, root: str) -> ListedFile:
    return ListedFile(_relative(info.path, root), info.size or 0, info.mtime_ns)


def _relative_hint(path_or_uri: str) -> str:
    path = absolute(path_or_uri)
    return "" if path == path_or_uri else f" (looked at {path})"
