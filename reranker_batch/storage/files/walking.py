"""What lies below a folder, each file and folder once, whatever links lead to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pyarrow import fs

from reranker_batch.errors import InputError


@dataclass(frozen=True)
class Entry:
    """A name in a folder. `path` is absolute, as the filesystem calls it; links are followed.

    A link that leads nowhere is a file, so that opening it fails and names it.
    """

    path: str
    kind: Literal["file", "folder", "other"]
    size_bytes: int | None = None
    modified_ns: int | None = None


@dataclass(frozen=True)
class Tree:
    """Entries at any depth, and by path why others are not among them."""

    entries: list[Entry]
    left_out: dict[str, str]


def children(filesystem: fs.FileSystem, folder: str) -> list[Entry]:
    """What a folder holds, sorted by name; nothing where there is no such folder."""
    if isinstance(filesystem, fs.LocalFileSystem):
        try:
            with os.scandir(folder) as listed:
                entries = [_local_entry(entry) for entry in listed]
        except (FileNotFoundError, NotADirectoryError):
            return []
    else:
        entries = _selected(filesystem, fs.FileSelector(folder, allow_not_found=True))
    return sorted(entries, key=lambda entry: entry.path)


def is_hidden(path: str) -> bool:
    """As Spark and Hive hide their own leftovers; `_day=1` is a partition of theirs, and so data."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in path.split("/"))


def walk(filesystem: fs.FileSystem, folder: str, *, into_hidden: bool) -> Tree:
    """Everything below a folder. A folder that links lead to as well is walked once, by its own path if that is below.

    Without `into_hidden` what lies in hidden folders may be missing.
    """
    if not isinstance(filesystem, fs.LocalFileSystem):
        return Tree(_selected(filesystem, fs.FileSelector(folder, recursive=True, allow_not_found=True)), {})
    tree, links = Tree([], {}), [folder]
    owners: dict[str, str] = {}
    while links:
        links.sort(reverse=True)
        pending = [links.pop()]
        while pending:
            path = pending.pop()
            if (owner := owners.setdefault(os.path.realpath(path), path)) != path:
                tree.left_out[path] = f"leads to the same folder as {owner}"
                continue
            entries = children(filesystem, path)
            tree.entries.extend(entries)
            for entry in reversed(entries):
                if entry.kind == "folder" and (into_hidden or not is_hidden(os.path.basename(entry.path))):
                    (links if os.path.islink(entry.path) else pending).append(entry.path)
    return tree


def without_repeats(filesystem: fs.FileSystem, root: str, entries: Iterable[Entry]) -> Tree:
    """Each file once: by its own path where that is among them, else by the first of its links."""
    if not isinstance(filesystem, fs.LocalFileSystem):
        return Tree(list(entries), {})
    folders: dict[str, str] = {}
    real_root = os.path.realpath(root)
    places = [(_real_path(entry.path, folders), entry) for entry in entries]
    places.sort(key=lambda place: (place[0] != os.path.join(real_root, relative(place[1].path, root)), place[1].path))
    tree, owners = Tree([], {}), dict[str, str]()
    for real_path, entry in places:
        path = entry.path
        if (owner := owners.setdefault(real_path, path)) == path:
            tree.entries.append(entry)
        else:
            tree.left_out[path] = f"leads to the same file as {owner}"
    return tree


def relative(path: str, root: str) -> str:
    """Some filesystems lead paths with a slash where the root has none, or the other way round."""
    return path.strip("/").removeprefix(root.strip("/")).lstrip("/")


def _real_path(path: str, folders: dict[str, str]) -> str:
    """`os.path.realpath`, which asks for every part of a path, with the folders asked for once."""
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _local_entry(entry: os.DirEntry[str]) -> Entry:
    if not _is_text(entry.path):
        shown = os.fsencode(entry.path).decode(errors="backslashreplace")
        raise InputError(f"{shown}: the name of this file or folder is not valid UTF-8. Rename it.")
    try:
        status = entry.stat()
    except OSError:
        return Entry(entry.path, "file")
    if entry.is_dir():
        return Entry(entry.path, "folder")
    return Entry(entry.path, "file" if entry.is_file() else "other", status.st_size, status.st_mtime_ns)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _selected(filesystem: fs.FileSystem, selector: fs.FileSelector) -> list[Entry]:
    return [_entry(info) for info in filesystem.get_file_info(selector)]


def _entry(info: fs.FileInfo) -> Entry:
    if info.type == fs.FileType.Directory:
        return Entry(info.path, "folder")
    return Entry(info.path, "file" if info.type == fs.FileType.File else "other", info.size, info.mtime_ns)


def single(filesystem: fs.FileSystem, path: str) -> Entry | None:
    """What is at a path, None where there is nothing."""
    info = filesystem.get_file_info(path)
    return None if info.type == fs.FileType.NotFound else _entry(info)


def folders_above(path: str) -> Iterator[str]:
    """The folders that a path lies in, nearest first."""
    while (parent := os.path.dirname(path)) not in (path, ""):
        yield parent
        path = parent
