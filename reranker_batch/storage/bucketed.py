"""Files of tables in numbered buckets: written in one go, read a bucket at a time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import CommitError
from reranker_batch.storage.filesystem import Folder

STAGING = "staging"
FLUSH_BYTES = 32 << 20
"""Rows that are gathered before they are written: the chunks of a bucket are as large as that allows."""
_MAGIC = b"RBBF"
_TAIL_BYTES = 8 + len(_MAGIC)
_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)


@dataclass(frozen=True)
class _Chunk:
    bucket: int
    start: int
    size_bytes: int


class BucketWriter:
    """Takes rows with their buckets. `facts` are small values that are kept with them, set before the file is whole."""

    def __init__(self, sink: pa.NativeFile) -> None:
        self.facts: dict[str, Any] = {}
        self._sink = sink
        self._chunks: list[tuple[int, int, int]] = []
        self._waiting: list[tuple[pa.Table, LongArray]] = []
        self._waiting_bytes = self._at = 0

    def add(self, table: pa.Table, buckets: LongArray) -> None:
        """Add rows; those of a bucket keep their order."""
        self._waiting.append((table, buckets))
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes >= FLUSH_BYTES:
            self._flush()

    def write(self, bucket: int, table: pa.Table) -> None:
        """Write rows of one bucket at once, where the order of buckets in the file is the caller's."""
        self._flush()
        self._write(bucket, table)

    def finish(self) -> None:
        """Write what is gathered, and the index."""
        self._flush()
        index = json.dumps({"chunks": self._chunks, "facts": self.facts}, ensure_ascii=True).encode()
        self._sink.write(index + len(index).to_bytes(8, "little") + _MAGIC)

    def _flush(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return
        table, buckets = pa.concat_tables([table for table, _ in waiting]), np.concatenate([of for _, of in waiting])
        del waiting
        order = np.argsort(buckets, kind="stable")
        numbers, starts = np.unique(buckets[order], return_index=True)
        bounds = [*starts.tolist(), len(order)]
        for at, number in enumerate(numbers.tolist()):
            self._write(number, table.take(pa.array(order[bounds[at] : bounds[at + 1]])))

    def _write(self, bucket: int, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=_OPTIONS) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        self._sink.write(content)
        self._chunks.append((bucket, self._at, content.size))
        self._at += content.size


@contextmanager
def new_bucket_file(folder: Folder, name: str) -> Iterator[BucketWriter]:
    """A file that appears under its name when the block has ended without an error; one that is there is replaced.

    Raises:
        CommitError: It cannot be written.
    """
    filesystem, final = folder.filesystem, folder.child(name)
    staged = folder.child(STAGING, f"{name}-{uuid.uuid4().hex}")
    try:
        filesystem.create_dir(folder.child(STAGING), recursive=True)
        with filesystem.open_output_stream(staged) as sink:
            writer = BucketWriter(sink)
            yield writer
            writer.finish()
        filesystem.move(staged, final)
    except BaseException as error:
        with suppress(OSError):
            filesystem.delete_file(staged)
        if isinstance(error, OSError):
            raise CommitError(f"{final} cannot be written: {error}") from error
        raise


@dataclass(frozen=True)
class BucketFile:
    """A file that `new_bucket_file` wrote."""

    folder: Folder
    name: str
    chunks: tuple[_Chunk, ...]
    facts: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Folder, name: str) -> BucketFile:
        """Read what the file says of itself.

        Raises:
            CommitError: It is missing or damaged.
        """
        path = folder.child(name)
        try:
            with folder.filesystem.open_input_file(path) as source:
                index = json.loads(_index_bytes(source))
                chunks = tuple(_Chunk(*chunk) for chunk in index["chunks"])
                return cls(folder, name, chunks, index["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CommitError(f"{path} cannot be read: {error}. Delete its folder and start again.") from error

    def tables(self, bucket: int) -> Iterator[pa.Table]:
        """The rows of a bucket in pieces, in the order in which they were added.

        Raises:
            CommitError: They cannot be read.
        """
        chunks = [chunk for chunk in self.chunks if chunk.bucket == bucket]
        if not chunks:
            return
        path = self.folder.child(self.name)
        try:
            with self.folder.filesystem.open_input_file(path) as source:
                for chunk in chunks:
                    content = source.read_at(chunk.size_bytes, chunk.start)
                    yield pa.ipc.open_stream(pa.py_buffer(content)).read_all()
        except (OSError, pa.ArrowException) as error:
            raise CommitError(f"{path} is damaged: {error}. Delete its folder and start again.") from error


def _index_bytes(source: pa.NativeFile) -> bytes:
    size = source.size()
    tail = source.read_at(_TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if len(tail) < _TAIL_BYTES or tail[8:] != _MAGIC:
        raise ValueError("it does not end as such a file does")
    length = int.from_bytes(tail[:8], "little")
    return bytes(source.read_at(length, size - _TAIL_BYTES - length))
