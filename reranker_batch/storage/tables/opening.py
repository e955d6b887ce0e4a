"""Files as streams of unpacked bytes, never of another file than the one that was listed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa
from pyarrow import fs

from reranker_batch.core.units import FileIdentity
from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.tables.forms import PACKED_SUFFIXES, Compression, compression_by_head
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.table_files import TableFiles

_READ_BYTES = 4 << 20
_BEGIN_BYTES = 1 << 16


class ByteSource(Protocol):
    """Bytes in their order."""

    def read(self, size: int) -> bytes: ...


@contextmanager
def open_bytes(files: TableFiles, piece: Piece, start: int = 0) -> Iterator[ByteSource]:
    """The unpacked bytes of a piece's file, from `start` on.

    Size and time are looked at before and after, also where reading failed, so that a file that was written meanwhile
    is named as such.

    Raises:
        InputError: The file cannot be read or unpacked, or has changed since it was listed. Names it.
    """
    file = files.files[piece.file_index]
    filesystem, path = files.place(piece.file_index)
    try:
        _refuse_changes(filesystem, path, file.path, piece.identity)
        with filesystem.open_input_file(path) as source:
            steady = _Steady(source, start)
            if start == 0 and file.compression == "none":
                _refuse_packed(steady.begin(), file.path)
            with _unpacked(steady, file.compression) as content:
                yield content
    except (OSError, pa.ArrowException) as error:
        _refuse_changes(filesystem, path, file.path, piece.identity)
        packed, remedy = (
            ("", "") if file.compression == "none" else (f" as {file.compression}", " Pack or copy it again.")
        )
        raise InputError(f"{file.path} cannot be read{packed}: {first_line(error)}.{remedy}") from error
    except InputError:
        _refuse_changes(filesystem, path, file.path, piece.identity)
        raise
    _refuse_changes(filesystem, path, file.path, piece.identity)


class _Steady(io.RawIOBase):
    """Bytes of a file from a place on; a read that fails for a reason that can pass is repeated.

    Reads grow, so that a look at the first line is cheap, and a store is asked for some MiB at a time.
    """

    def __init__(self, file: pa.NativeFile, start: int) -> None:
        self._file, self._position = file, start
        self._ahead, self._passed, self._num_bytes = b"", 0, 0

    def readable(self) -> bool:
        return True

    def size(self) -> int:
        size: int = self._file.size()
        return size

    def begin(self) -> bytes:
        """The first bytes, which stay."""
        data = self.read(_BEGIN_BYTES)
        self._passed -= len(data)
        return data

    def read(self, size: int = -1) -> bytes:
        """Fewer bytes than asked for only where some are at hand, or at the end."""
        if self._passed == len(self._ahead):
            self._num_bytes = max(size, min(2 * self._num_bytes, _READ_BYTES))
            self._ahead = bytes(
                retried(lambda: self._file.read_at(self._num_bytes, self._position), "Reading a file of rows")
            )
            self._position, self._passed = self._position + len(self._ahead), 0
        data = self._ahead[self._passed : self._passed + size]
        self._passed += len(data)
        return data


def _refuse_packed(begin: bytes, name: str) -> None:
    if (packed := compression_by_head(begin)) != "none":
        suffix = next(suffix for suffix, known in PACKED_SUFFIXES.items() if known == packed)
        raise InputError(f"{name} is packed by {packed}. Give its name the suffix {suffix}, or unpack it.")


@contextmanager
def _unpacked(source: _Steady, compression: Compression) -> Iterator[ByteSource]:
    if compression == "none":
        yield source
        return
    if source.size() == 0:
        raise OSError("it is empty (0 bytes)")
    with pa.CompressedInputStream(pa.PythonFile(source, "r"), compression) as stream:
        yield stream


def _refuse_changes(filesystem: fs.FileSystem, path: str, name: str, listed: FileIdentity) -> None:
    try:
        info = filesystem.get_file_info(path)
    except OSError:
        return
    if info.type == fs.FileType.NotFound:
        raise InputError(f"{name} is gone since it was listed. Put it back, or start again.")
    size_bytes = listed.size_bytes if info.size is None or not listed.size_bytes else info.size
    if changes := listed.changes_in(FileIdentity(size_bytes, info.mtime_ns, listed.footer_digest)):
        raise InputError(
            f"{name} has changed since it was listed: {', '.join(changes)}. Put the original back, or start again with "
            "another output.path."
        )
