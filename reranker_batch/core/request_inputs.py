"""Inputs of a model that reads all documents of a request together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray, Ragged, offsets_of, positions_of


@dataclass(frozen=True)
class RequestInputs:
    """Requests, each of one or several blocks: a block is read at once, and a request is scored by all of its blocks.

    Request `i` has the blocks `block_offsets[i]:block_offsets[i + 1]`. `marks[b]` are the places in `ids[b]` whose
    states stand for the documents of block `b`, in their order, and last the place whose state stands for the query.
    """

    ids: Ragged
    """Token ids of each block."""
    marks: Ragged
    block_offsets: LongArray
    groups: LongArray
    """A number for each request; requests with equal numbers have the same query."""

    @classmethod
    def from_arrow(cls, table: pa.Table) -> RequestInputs:
        """View what `to_arrow` made. Nothing is copied if the table has one chunk."""
        if table.num_rows == 0:
            nothing = Ragged.from_lists([])
            return cls(nothing, nothing, offsets_of(np.empty(0, dtype=np.int64)), np.empty(0, dtype=np.int64))
        if table["ids"].num_chunks > 1:
            table = table.combine_chunks()
        ids, marks = table["ids"].chunk(0), table["marks"].chunk(0)
        return cls(
            Ragged.from_arrow(ids.values),
            Ragged.from_arrow(marks.values),
            ids.offsets.to_numpy(),
            table["groups"].to_numpy(),
        )

    @property
    def sizes(self) -> LongArray:
        return self._sums(self.marks.lengths - 1)

    @property
    def costs(self) -> LongArray:
        return self._sums(self.ids.lengths)

    def _sums(self, of_blocks: LongArray) -> LongArray:
        """Of the blocks of each request."""
        return np.add.reduceat(of_blocks, self.block_offsets[:-1]) if len(self) else of_blocks

    def __len__(self) -> int:
        return len(self.block_offsets) - 1

    def take(self, rows: LongArray) -> RequestInputs:
        lengths = np.diff(self.block_offsets)[rows]
        blocks = positions_of(self.block_offsets[rows], lengths)
        return RequestInputs(self.ids.take(blocks), self.marks.take(blocks), offsets_of(lengths), self.groups[rows])

    def distinct(self) -> tuple[LongArray, LongArray]:
        """Equal requests have equal blocks; that their marks are equal follows from the ids."""
        _, block = self.ids.distinct()
        starts = self.block_offsets
        return Ragged(block.astype(np.int32), starts).distinct()

    def to_arrow(self) -> pa.Table:
        lists = (self.ids.to_arrow(), self.marks.to_arrow())
        ids, marks = (pa.LargeListArray.from_arrays(pa.array(self.block_offsets), one) for one in lists)
        return pa.table({"ids": ids, "marks": marks, "groups": self.groups})
