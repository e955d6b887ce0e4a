"""Ranges of queries with about as many rows each, so that the parts of a result follow each other in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.buckets import HashArray, id_hashes
from reranker_batch.core.pair_texts import DistinctTexts
from reranker_batch.core.ragged import LongArray
from reranker_batch.preparing.stages import Stages, total
from reranker_batch.preparing.work import Work, file_name
from reranker_batch.storage.files.bucketed import BucketFile, new_bucket_file

MAX_RANGES = 4_096
_SAMPLED_ROWS = 1 << 16
_LONGEST_KEY = 1_024
"""Bytes of a key that decide about ranges: a text may be a key."""
_ROWS, _SAMPLE = 0, 1
"""Buckets of a file of rows that are in no range yet."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
Keys = Callable[[pa.Table], pa.Array | pa.ChunkedArray]
"""What the queries of rows are sorted by."""


class RowSample:
    """Rows with the smallest hashes: the same rows of a table, in whatever order and pieces it is read."""

    def __init__(self, most: int = _SAMPLED_ROWS) -> None:
        self._most = most
        self._hashes: HashArray = np.empty(0, np.uint64)
        self._keys = pa.array([], pa.large_binary())

    def add(self, keys: pa.Array | pa.ChunkedArray, documents: pa.Array | pa.ChunkedArray) -> None:
        """Rows by the key of their query and by their document, none of which is null."""
        self._merge(id_hashes(keys) * _MIX + id_hashes(documents), pc.binary_slice(_raw(keys), 0, _LONGEST_KEY))

    def add_table(self, table: pa.Table) -> None:
        """Of another sample."""
        self._merge(table["hash"].to_numpy(), table["key"])

    def table(self) -> pa.Table:
        return pa.table({"hash": self._hashes, "key": self._keys})

    def bounds(self, count: int) -> pa.Array:
        """The keys at which all ranges but the first begin: `count` ranges, fewer where a query fills several."""
        ordered = self._keys.take(pc.sort_indices(self._keys))
        places = np.arange(1, count, dtype=np.int64) * len(ordered) // count
        bounds = ordered.take(pa.array(places)).unique() if len(ordered) else ordered
        return bounds.slice(1) if len(bounds) and bounds[0] == ordered[0] else bounds

    def _merge(self, hashes: HashArray, keys: pa.Array | pa.ChunkedArray) -> None:
        if len(self._hashes) == self._most:
            is_near = hashes < self._hashes[-1]
            hashes, keys = hashes[is_near], keys.filter(pa.array(is_near))
        own = keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys]
        both = pa.concat_arrays([self._keys, *own])
        distinct, first = np.unique(np.concatenate([self._hashes, hashes]), return_index=True)
        self._hashes, self._keys = distinct[: self._most], both.take(pa.array(first[: self._most]))


def gather_rows(work: Work, number: int, tables: Iterable[tuple[pa.Table, int]], keys: Keys, documents: Keys) -> int:
    """Leave the rows of a piece of the run, each table with its weight, and a sample of them; the number of rows."""
    sample, rows, size_bytes = RowSample(), 0, 0
    with new_bucket_file(work.folder, file_name("run", number)) as file:
        for table, weight in tables:
            file.add(table, np.full(len(table), _ROWS, np.int64))
            sample.add(keys(table), documents(table))
            rows, size_bytes = rows + len(table), size_bytes + weight
        file.write(_SAMPLE, sample.table())
        file.facts.update(rows=rows, bytes=size_bytes)
    return rows


@dataclass(frozen=True)
class FindRanges:
    """Write where the ranges begin."""

    work: Work
    num_pieces: int
    range_bytes: int

    def __call__(self, number: int) -> int:
        sample, size_bytes = RowSample(), 0
        for piece in (self.work.open("run", at) for at in range(self.num_pieces)):
            size_bytes += piece.facts["bytes"]
            for table in piece.tables(_SAMPLE):
                sample.add_table(table)
        bounds = sample.bounds(min(MAX_RANGES, max(1, ceil(size_bytes / self.range_bytes))))
        with new_bucket_file(self.work.folder, file_name("ranges", number)) as file:
            file.write(0, pa.table({"key": bounds}))
            file.facts["ranges"] = len(bounds) + 1
        return len(bounds) + 1


@dataclass(frozen=True)
class SplitRows:
    """The rows of a piece by the range of their query."""

    work: Work
    keys: Keys

    def __call__(self, number: int) -> int:
        rows = 0
        with new_bucket_file(self.work.folder, file_name("split", number)) as file:
            for table in self.work.open("run", number).tables(_ROWS):
                file.add(table, ranges_of(self.work, self.keys(table)))
                rows += len(table)
        return rows


def split_in_ranges(stages: Stages, num_pieces: int, keys: Keys) -> Stages:
    """Split rows that are gathered, and go on with the ranges."""
    stages.do("ranges", FindRanges(stages.work, num_pieces, stages.record.range_bytes), {0: 0})
    in_ranges = replace(stages, num_ranges=total(stages.facts("ranges", 1), "ranges"))
    if in_ranges.num_ranges > 1:
        in_ranges.do("split", SplitRows(in_ranges.work, keys), {number: number for number in range(num_pieces)})
    return in_ranges


def row_files(work: Work, num_pieces: int) -> list[BucketFile]:
    """Of the rows by their ranges; those of a single range are not split."""
    return [work.open("split" if work.num_ranges > 1 else "run", number) for number in range(num_pieces)]


def ranges_of(work: Work, keys: pa.Array | pa.ChunkedArray) -> LongArray:
    """The range of each key."""
    bounds, distinct = _bounds(work), DistinctTexts.of(keys)
    order = pc.sort_indices(pa.concat_arrays([bounds, _raw(distinct.texts)])).to_numpy().astype(np.int64)
    ranges = np.empty(len(order), dtype=np.int64)
    ranges[order] = np.cumsum(order < len(bounds))  # the sort is stable: a key that is a bound comes after it
    return np.asarray(ranges[len(bounds) :][distinct.at], dtype=np.int64)


@lru_cache(maxsize=1)
def _bounds(work: Work) -> pa.Array:
    return pa.concat_tables(work.open("ranges", 0).tables(0))["key"].combine_chunks()


def _raw(keys: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return keys.cast(pa.large_binary())
