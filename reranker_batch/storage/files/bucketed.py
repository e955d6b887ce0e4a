"""Files of tables in numbered buckets: written in one go, read a bucket at a time.

A file has the pieces of a bucket next to each other, each after its length, then where each bucket begins, then facts.
So a reader keeps eight bytes a bucket, and reads a bucket in one go, however many pieces it came in.
"""

from __future__ import annotations

import json
import struct
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.staging import moved_when_whole

STAGING = "staging"
FLUSH_BYTES = 16 << 20
"""Rows that are gathered before they are cut into pieces."""
_SPOOLED_BYTES = 16 << 20
_READ_BYTES = 4 << 20
_MAGIC = b"RBBF"
_LENGTH = struct.Struct("<Q")
_TAIL = struct.Struct("<QQ4s")
"""How many buckets there are, how long the facts are, and what such a file ends with."""
_WRITE = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
_READ = pa.ipc.IpcReadOptions(use_threads=False)


class BucketWriter:
    """Takes rows with their buckets. `facts` are small values that are kept with them, set before the file is whole."""

    def __init__(self, sink: pa.NativeFile, spool: IO[bytes], flush_bytes: int) -> None:
        self.facts: dict[str, Any] = {}
        self._sink, self._spool, self._flush_bytes = sink, spool, flush_bytes
        self._pieces: list[list[tuple[int, int]]] = []
        """Of each bucket, where its pieces begin in the spool and how long they are."""
        self._waiting: list[tuple[pa.Table, LongArray]] = []
        self._waiting_bytes = 0

    def add(self, table: pa.Table, buckets: LongArray) -> None:
        """Add rows; those of a bucket keep their order. Tables may have different columns."""
        if self._waiting and table.schema != self._waiting[0][0].schema:
            self._flush()
        self._waiting.append((table, buckets))
        self._waiting_bytes += table.nbytes
        if self._waiting_bytes >= self._flush_bytes:
            self._flush()

    def write(self, bucket: int, table: pa.Table) -> None:
        """Add rows of one bucket at once."""
        self._flush()
        self._write(bucket, table)

    def finish(self) -> None:
        """Write what is gathered bucket by bucket, and the index."""
        self._flush()
        bounds = np.zeros(len(self._pieces) + 1, dtype="<i8")
        for bucket, pieces in enumerate(self._pieces):
            for start, size in pieces:
                self._spool.seek(start)
                self._sink.write(_LENGTH.pack(size) + self._spool.read(size))
            bounds[bucket + 1] = bounds[bucket] + sum(_LENGTH.size + size for _, size in pieces)
        facts = json.dumps(self.facts, ensure_ascii=True).encode()
        self._sink.write(bounds.tobytes() + facts + _TAIL.pack(len(self._pieces), len(facts), _MAGIC))

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
        with pa.ipc.new_stream(sink, table.schema, options=_WRITE) as writer:
            writer.write_table(table)
        content = sink.getvalue()
        self._pieces.extend([] for _ in range(bucket + 1 - len(self._pieces)))
        self._pieces[bucket].append((self._spool.tell(), content.size))
        self._spool.write(content)


@contextmanager
def new_bucket_file(folder: Folder, name: str, *, flush_bytes: int = FLUSH_BYTES) -> Iterator[BucketWriter]:
    """A file that appears under its name when the block has ended without an error; one that is there is replaced.

    Its content is first gathered in a temporary file of this machine.

    Raises:
        CommitError: It cannot be written.
    """
    filesystem, final = folder.filesystem, folder.child(name)
    staged = folder.child(STAGING, f"{name}-{uuid.uuid4().hex}")
    with moved_when_whole(filesystem, staged, final):
        filesystem.create_dir(folder.child(STAGING), recursive=True)
        with (
            tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool,
            filesystem.open_output_stream(staged) as sink,
        ):
            writer = BucketWriter(sink, spool, flush_bytes)
            yield writer
            writer.finish()


@dataclass(frozen=True)
class BucketFile:
    """A file that `new_bucket_file` wrote."""

    folder: Folder
    name: str
    facts: Mapping[str, Any]
    bounds: LongArray = field(repr=False)
    """Where each bucket begins in the file, and where the last one ends."""

    @classmethod
    def open(cls, folder: Folder, name: str) -> BucketFile:
        """Read what the file says of itself.

        Raises:
            CommitError: It is missing or damaged.
        """
        path = folder.child(name)
        try:
            with folder.filesystem.open_input_file(path) as source:
                return cls(folder, name, *_index(source))
        except (OSError, ValueError, struct.error) as error:
            raise CommitError(f"{path} cannot be read: {error}. Delete its folder and start again.") from error

    def tables(self, bucket: int) -> Iterator[pa.Table]:
        """The rows of a bucket in pieces, in the order in which they were added.

        Raises:
            CommitError: They cannot be read.
        """
        start, stop = self.bounds[bucket : bucket + 2].tolist() if bucket < len(self.bounds) - 1 else (0, 0)
        if start == stop:
            return
        path = self.folder.child(self.name)
        try:
            with self.folder.filesystem.open_input_file(path) as file:
                file.seek(start)
                source = pa.BufferedInputStream(file, min(_READ_BYTES, stop - start))
                while start < stop:
                    (size,) = _LENGTH.unpack(source.read(_LENGTH.size))
                    if size > stop - start - _LENGTH.size:
                        raise pa.ArrowInvalid(f"a piece of {size} bytes is longer than its bucket")
                    yield pa.ipc.open_stream(source.read_buffer(size), options=_READ).read_all()
                    start += _LENGTH.size + size
        except pa.ArrowMemoryError:
            raise
        except (OSError, pa.ArrowException, struct.error) as error:
            raise CommitError(f"{path} is damaged: {error}. Delete its folder and start again.") from error


def _index(source: pa.NativeFile) -> tuple[dict[str, Any], LongArray]:
    """Facts and bounds. Raises ValueError or struct.error for a file that is not whole."""
    end = source.size() - _TAIL.size
    num_buckets, num_facts, magic = _TAIL.unpack(source.read_at(_TAIL.size, max(0, end)))
    num_bounds = (num_buckets + 1) * _LENGTH.size
    if magic != _MAGIC or num_bounds + num_facts > end:
        raise ValueError("it does not end as such a file does")
    index = source.read_at(num_bounds + num_facts, end - num_bounds - num_facts)
    bounds = np.frombuffer(index[:num_bounds], dtype="<i8")
    if bounds[-1] != end - num_bounds - num_facts:
        raise ValueError("its parts are not as long as it says")
    return json.loads(index[num_bounds:]), bounds
