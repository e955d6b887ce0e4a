"""Texts of a bucket by their ids, read again where they do not all fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.storage.bucketed import BucketFile

KEPT_BYTES = 96 << 20
"""Of tables that stay in memory between two readings."""


@dataclass(frozen=True)
class Duplicate:
    """An id that is there again: its place among the wanted ids, and the piece and row of both."""

    at: int
    first: tuple[int, int]
    second: tuple[int, int]


class Lookup:
    """Where the texts of `wanted` ids are in some files; of an id that is there twice, the first in its source."""

    def __init__(self, files: Sequence[BucketFile], bucket: int, wanted: pa.Array) -> None:
        self.wanted = wanted
        self.duplicates: list[Duplicate] = []
        self._files, self._bucket = files, bucket
        self._kept: list[pa.Table] | None = []
        self.table = np.full(len(wanted), -1, dtype=np.int64)
        self.row = np.zeros(len(wanted), dtype=np.int64)
        self.bytes = np.zeros(len(wanted), dtype=np.int64)
        self._index()

    @property
    def is_there(self) -> BoolArray:
        """Which of the wanted ids have a text; a row without one counts as none."""
        return np.asarray(self.table >= 0, dtype=np.bool_)

    def texts(self, at: LongArray) -> pa.Array:
        """The texts of wanted ids by their places, null for one that is not there; places may repeat."""
        needed = np.unique(at[self.is_there[at]])
        order = needed[np.argsort(self.table[needed], kind="stable")]
        bounds = np.searchsorted(self.table[order], np.arange(int(self.table.max(initial=-1)) + 2))
        pieces = [
            table["text"].take(pa.array(self.row[order[bounds[number] : bounds[number + 1]]]))
            for number, table in enumerate(self._tables())
            if number + 1 < len(bounds) and bounds[number] < bounds[number + 1]
        ]
        whole = pa.chunked_array(pieces, pa.large_string()).combine_chunks()
        whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
        place = np.zeros(len(self.wanted) + 1, dtype=np.int64)
        place[order] = np.arange(len(order))
        return whole.take(pa.array(place[at], mask=~self.is_there[at]))

    def _tables(self) -> Iterator[pa.Table]:
        if self._kept is not None:
            yield from self._kept
            return
        for file in self._files:
            yield from file.tables(self._bucket)

    def _index(self) -> None:
        places: list[LongArray] = []
        kept_bytes = 0
        for number, table in enumerate(table for file in self._files for table in file.tables(self._bucket)):
            found = pc.index_in(table["id"], value_set=self.wanted)
            rows = np.flatnonzero(pc.and_(found.is_valid(), table["text"].is_valid()).to_numpy())
            at = found.fill_null(0).to_numpy().astype(np.int64)[rows]
            lengths = pc.binary_length(table["text"]).fill_null(0).to_numpy().astype(np.int64)[rows]
            piece, row = (table[name].to_numpy().astype(np.int64)[rows] for name in ("piece", "row"))
            is_counted = _flags(table)[rows]
            places.append(np.stack([at, piece, row, np.full(len(at), number), rows, lengths, is_counted]))
            kept_bytes += table.nbytes
            if kept_bytes > KEPT_BYTES:
                self._kept = None
            if self._kept is not None:
                self._kept.append(table.select(["text"]))
        if places:
            self._choose(np.concatenate(places, axis=1))

    def _choose(self, places: LongArray) -> None:
        """The first place of each id; the others are duplicates."""
        at, piece, row, table, inner, lengths, is_counted = places[:, np.lexsort(places[2::-1])]
        is_first = np.ones(len(at), dtype=np.bool_)
        is_first[1:] = at[1:] != at[:-1]
        chosen = at[is_first]
        self.table[chosen], self.row[chosen], self.bytes[chosen] = table[is_first], inner[is_first], lengths[is_first]
        firsts = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        for second in np.flatnonzero(~is_first & (is_counted > 0)).tolist():
            first = int(firsts[second])
            where = (int(piece[first]), int(row[first])), (int(piece[second]), int(row[second]))
            self.duplicates.append(Duplicate(int(at[second]), *where))


def _flags(table: pa.Table) -> LongArray:
    if "is_counted" not in table.column_names:
        return np.ones(len(table), dtype=np.int64)
    return np.asarray(table["is_counted"].to_numpy(), dtype=np.int64)
