"""Texts of a bucket by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.preparing.joining.stored import StoredRows
from reranker_batch.storage.files.bucketed import BucketFile


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
        self.bytes = np.zeros(len(wanted), dtype=np.int64)
        """Of each text, 0 where there is none."""
        self._rows = StoredRows(files, bucket, ["text"])
        self._table = np.full(len(wanted), -1, dtype=np.int64)
        self._row = np.zeros(len(wanted), dtype=np.int64)
        self._index()

    @property
    def is_there(self) -> BoolArray:
        """Which of the wanted ids have a text; a row without one counts as none."""
        return np.asarray(self._table >= 0, dtype=np.bool_)

    def texts(self, at: LongArray) -> pa.Array:
        """The texts of wanted ids by their places, null for one that is not there; places may repeat."""
        needed = np.unique(at[self.is_there[at]])
        needed = needed[np.argsort(self._table[needed], kind="stable")]
        rows = self._rows.take(self._table[needed], self._row[needed])
        if rows is None:
            return pa.nulls(len(at), pa.large_string())
        place = np.zeros(len(self.wanted) + 1, dtype=np.int64)
        place[needed] = np.arange(len(needed))
        return rows["text"].chunk(0).take(pa.array(place[at], mask=~self.is_there[at]))

    def _index(self) -> None:
        places: list[LongArray] = []
        for number, table in enumerate(self._rows.scan()):
            wanted_at = pc.index_in(table["id"], value_set=self.wanted)
            rows = np.flatnonzero(pc.and_(wanted_at.is_valid(), table["text"].is_valid()).to_numpy())
            at = wanted_at.fill_null(0).to_numpy().astype(np.int64)[rows]
            lengths = pc.binary_length(table["text"]).fill_null(0).to_numpy().astype(np.int64)[rows]
            piece, row = (table[name].to_numpy().astype(np.int64)[rows] for name in ("piece", "row"))
            is_counted = _flags(table)[rows]
            places.append(np.stack([at, piece, row, np.full(len(at), number), rows, lengths, is_counted]))
        if places:
            self._choose(np.concatenate(places, axis=1))

    def _choose(self, places: LongArray) -> None:
        """The first place of each id; the others are duplicates."""
        at, piece, row, table, inner, lengths, is_counted = places[:, np.lexsort(places[2::-1])]
        is_first = np.ones(len(at), dtype=np.bool_)
        is_first[1:] = at[1:] != at[:-1]
        chosen = at[is_first]
        self._table[chosen], self._row[chosen] = table[is_first], inner[is_first]
        self.bytes[chosen] = lengths[is_first]
        firsts = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        for second in np.flatnonzero(~is_first & (is_counted > 0)).tolist():
            first = int(firsts[second])
            where = (int(piece[first]), int(row[first])), (int(piece[second]), int(row[second]))
            self.duplicates.append(Duplicate(int(at[second]), *where))


def _flags(table: pa.Table) -> LongArray:
    if "is_counted" not in table.column_names:
        return np.ones(len(table), dtype=np.int64)
    return np.asarray(table["is_counted"].to_numpy(), dtype=np.int64)
