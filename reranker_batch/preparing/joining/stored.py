"""The rows of a bucket, read again where they do not all fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.storage.files.bucketed import BucketFile

KEPT_BYTES = 32 << 20
"""Of tables that stay in memory between two readings."""


class StoredRows:
    """Tables of a bucket in several files, numbered in their order; of which some columns are taken later."""

    def __init__(self, files: Sequence[BucketFile], bucket: int, columns: Sequence[str] | None = None) -> None:
        self._files, self._bucket = files, bucket
        self._columns = columns
        self._kept: list[pa.Table] | None = None

    def scan(self) -> Iterator[pa.Table]:
        """All tables whole. Those that are small together stay in memory for `take`."""
        kept: list[pa.Table] | None = []
        kept_bytes = 0
        for table in self._read():
            kept_bytes += table.nbytes
            if kept_bytes > KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(self._part(table))
            yield table
        self._kept = kept

    def take(self, tables: LongArray, rows: LongArray) -> pa.Table | None:
        """Rows by the number of their table and their place there, in the order given; None where there are none."""
        order = np.argsort(tables, kind="stable")
        bounds = np.searchsorted(tables[order], np.arange(int(tables.max(initial=-1)) + 2))
        pieces = []
        for number, table in zip(range(len(bounds) - 1), self._tables(), strict=False):
            if bounds[number] < bounds[number + 1]:
                pieces.append(table.take(pa.array(rows[order[bounds[number] : bounds[number + 1]]])))
        if not pieces:
            return None
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        whole = pa.concat_tables(pieces, promote_options="permissive").combine_chunks()
        return whole if (place[1:] > place[:-1]).all() else whole.take(pa.array(place))

    def _tables(self) -> Iterator[pa.Table]:
        yield from (map(self._part, self._read()) if self._kept is None else self._kept)

    def _read(self) -> Iterator[pa.Table]:
        for file in self._files:
            yield from file.tables(self._bucket)

    def _part(self, table: pa.Table) -> pa.Table:
        return table if self._columns is None else table.select(self._columns)
