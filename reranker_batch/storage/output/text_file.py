"""A file that others read: written aside, then moved to its place in one step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from contextlib import suppress

from pyarrow import fs as pafs

from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.filesystem import resolve

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_OTHERS = (".bz2", ".xz", ".zip", ".lz4", ".7z", ".tar", ".tgz")


def write_text_file(place: str, pieces: Iterable[bytes]) -> None:
    """Write a file that readers see whole or not at all; a file that is there is replaced by it.

    A name that ends with .gz or .zst is compressed; equal pieces give equal bytes. If `pieces` raises, nothing changes.

    Raises:
        ConfigError: There can be no file of this name at this place.
        CommitError: It cannot be written.
    """
    filesystem, path = resolve(place)
    compression = _compression_of(place, path)
    try:
        _refuse_folder(filesystem, place, path)
        _write(filesystem, path, compression, pieces)
    except OSError as error:
        raise CommitError(f"{place} cannot be written: {error}") from error


def _compression_of(place: str, path: str) -> str | None:
    if not path or path.endswith("/"):
        raise ConfigError(f"{place} is no name of a file. Name the file to write.")
    if path.lower().endswith(_OTHERS):
        raise ConfigError(f"{place}: files of this kind are not written. Use a name with .gz or .zst, or without.")
    return next((kind for suffix, kind in _COMPRESSIONS.items() if path.lower().endswith(suffix)), None)


def _refuse_folder(filesystem: pafs.FileSystem, place: str, path: str) -> None:
    if filesystem.get_file_info(path).type == pafs.FileType.Directory:
        raise ConfigError(f"{place} is a folder. Name the file to write.")


def _write(filesystem: pafs.FileSystem, path: str, compression: str | None, pieces: Iterable[bytes]) -> None:
    folder, slash, name = path.rpartition("/")
    staged = f"{folder}{slash}.{name}.{uuid.uuid4().hex}"
    if folder:
        filesystem.create_dir(folder, recursive=True)
    try:
        with filesystem.open_output_stream(staged, compression=compression) as sink:
            for piece in pieces:
                sink.write(piece)
        filesystem.move(staged, path)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(staged)
        raise
