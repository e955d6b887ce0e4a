"""A file that others read: written aside, then moved to its place in one step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from pyarrow import fs as pafs

from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.filesystem import resolve

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_COMPARED_BYTES = 1 << 20
_OTHERS = (".bz2", ".xz", ".zip", ".lz4", ".7z", ".tar", ".tgz")


def write_text_file(place: str, pieces: Iterable[bytes]) -> None:
    """Write a file that readers see whole or not at all; one that is there with the same bytes stays.

    A name that ends with .gz or .zst is compressed; equal pieces give equal bytes. If `pieces` raises, nothing changes.

    Raises:
        ConfigError: There can be no file of this name at this place, or there is another one.
        CommitError: It cannot be written.
    """
    filesystem, path = resolve(place)
    compression = _compression_of(place, path)
    try:
        _refuse_folder(filesystem, place, path)
        with _staged(filesystem, path) as staged:
            _write(filesystem, staged, compression, pieces)
            if not _is_there(filesystem, place, path, staged):
                filesystem.move(staged, path)
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


@contextmanager
def _staged(filesystem: pafs.FileSystem, path: str) -> Iterator[str]:
    """A name next to a path, whose file is gone at the end."""
    folder, slash, name = path.rpartition("/")
    staged = f"{folder}{slash}.{name}.{uuid.uuid4().hex}"
    if folder:
        filesystem.create_dir(folder, recursive=True)
    try:
        yield staged
    finally:
        with suppress(OSError):
            filesystem.delete_file(staged)


def _write(filesystem: pafs.FileSystem, path: str, compression: str | None, pieces: Iterable[bytes]) -> None:
    with filesystem.open_output_stream(path, compression=compression) as sink:
        for piece in pieces:
            sink.write(piece)


def _is_there(filesystem: pafs.FileSystem, place: str, path: str, staged: str) -> bool:
    """Whether the file is there already. Raises ConfigError when it has other bytes: it may be anything."""
    if filesystem.get_file_info(path).type == pafs.FileType.NotFound:
        return False
    with (
        filesystem.open_input_stream(path, compression=None) as one,
        filesystem.open_input_stream(staged, compression=None) as other,
    ):
        while (piece := one.read(_COMPARED_BYTES)) == other.read(_COMPARED_BYTES):
            if not piece:
                return True
    raise ConfigError(f"{place} is there already, with other content. Delete it, or name a new file.")
