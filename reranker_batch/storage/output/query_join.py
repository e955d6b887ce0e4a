"""Ranked lists of two outputs, brought together by query id in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import CommitError

_BUFFER_BYTES = 32 << 20
_BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class JoinedLists:
    """Lists of the queries that both sides have: row `i` of both tables is the same query.

    Where a side has several rows with one query id, the first one counts; `num_repeated` are the others.
    """

    before: pa.Table
    after: pa.Table
    num_only_before: int
    num_only_after: int
    num_repeated: int


def join_by_query(
    before: Iterable[pa.Table], after: Iterable[pa.Table], *, num_buckets: int = 1024, batch_bytes: int = _BATCH_BYTES
) -> Iterator[JoinedLists]:
    """Yield the queries of both sides in batches, in whatever order and pieces they come.

    Both sides are read once and go to temporary files, cut by the hash of the query id into `num_buckets`. A batch is
    as many buckets as `batch_bytes` hold, at least one, so memory does not grow with the number of queries until a
    bucket is larger than that. All tables have the same columns, `query_id` among them.

    Raises:
        CommitError: The folder for temporary files is full.
    """
    with _Buckets.open(num_buckets) as left, _Buckets.open(num_buckets) as right:
        left.fill(before)
        right.fill(after)
        for buckets in _batches(left.sizes() + right.sizes(), batch_bytes):
            one, two = left.read(buckets), right.read(buckets)
            if one is not None or two is not None:
                yield _join(one, two)


def _batches(sizes: LongArray, batch_bytes: int) -> Iterator[range]:
    """Neighbouring buckets, as many as fit."""
    start, total = 0, 0
    for bucket, size in enumerate(sizes.tolist()):
        if total and total + size > batch_bytes:
            yield range(start, bucket)
            start, total = bucket, 0
        total += size
    yield range(start, len(sizes))


def _join(before: pa.Table | None, after: pa.Table | None) -> JoinedLists:
    if before is None or after is None:
        whole = before if before is not None else after
        assert whole is not None
        rows = _first_rows(whole)
        only_before, only_after = (len(rows), 0) if after is None else (0, len(rows))
        return JoinedLists(whole.slice(0, 0), whole.slice(0, 0), only_before, only_after, len(whole) - len(rows))
    left, right = _first_rows(before), _first_rows(after)
    at = pc.index_in(left["query_id"], right["query_id"])
    shared = left.filter(at.is_valid())
    return JoinedLists(
        before=shared,
        after=right.take(at.drop_null()),
        num_only_before=len(left) - len(shared),
        num_only_after=len(right) - len(shared),
        num_repeated=len(before) - len(left) + len(after) - len(right),
    )


def _first_rows(table: pa.Table) -> pa.Table:
    """The first row of each query id."""
    codes = table["query_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    return table if len(first) == len(table) else table.take(pa.array(np.sort(first)))


@dataclass
class _Buckets:
    """Tables in a temporary file, cut by the hash of the query id; rows of a bucket keep their order."""

    file: IO[bytes]
    pieces: list[list[tuple[int, int]]]
    """Of each bucket, where its pieces begin in the file and how long they are."""
    schema: pa.Schema | None = None

    @classmethod
    def open(cls, num_buckets: int) -> _Buckets:
        file = tempfile.SpooledTemporaryFile(max_size=_BUFFER_BYTES)  # noqa: SIM115  # __exit__ closes it
        return cls(file, [[] for _ in range(num_buckets)])

    def __enter__(self) -> _Buckets:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()

    def fill(self, tables: Iterable[pa.Table]) -> None:
        pending: list[pa.Table] = []
        num_bytes = 0
        for table in tables:
            pending.append(table)
            num_bytes += table.nbytes
            if num_bytes >= _BUFFER_BYTES:
                self._write(pending)
                pending, num_bytes = [], 0
        if pending:
            self._write(pending)

    def _write(self, tables: list[pa.Table]) -> None:
        rows = pa.concat_tables(tables).combine_chunks()
        self.schema = rows.schema
        buckets = _bucket_of(rows["query_id"], len(self.pieces))
        order = np.argsort(buckets, kind="stable")
        bounds = np.searchsorted(buckets[order], np.arange(len(self.pieces) + 1))
        ordered = rows.take(pa.array(order)).combine_chunks()
        for bucket, (start, stop) in enumerate(pairwise(bounds.tolist())):
            for batch in ordered.slice(start, stop - start).to_batches():
                self._append(bucket, batch.serialize())

    def _append(self, bucket: int, content: pa.Buffer) -> None:
        try:
            self.pieces[bucket].append((self.file.tell(), content.size))
            self.file.write(content)
        except OSError as error:
            raise CommitError(
                f"A temporary file in {tempfile.gettempdir()} cannot be written: {error}. Comparing two outputs takes "
                "about the space of their ids and scores. Set TMPDIR to a folder that has it."
            ) from error

    def sizes(self) -> LongArray:
        """Bytes of each bucket."""
        return np.array([sum(size for _, size in pieces) for pieces in self.pieces], dtype=np.int64)

    def read(self, buckets: range) -> pa.Table | None:
        """The rows of some buckets, None where they have none."""
        batches = []
        for start, size in (piece for bucket in buckets for piece in self.pieces[bucket]):
            self.file.seek(start)
            batches.append(pa.ipc.read_record_batch(pa.py_buffer(self.file.read(size)), self.schema))
        return pa.Table.from_batches(batches).combine_chunks() if batches else None


def _bucket_of(query_ids: pa.ChunkedArray, num_buckets: int) -> LongArray:
    hashes = pl.Series(pl.from_arrow(query_ids)).hash().to_numpy()
    return (hashes % num_buckets).astype(np.int64)
