"""Rows of labels as the flat material of training sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import LongArray, offsets_of, positions_of
from reranker_batch.storage.values import list_lengths, list_values, one_chunk

_STRINGS = pa.large_string()


@dataclass(frozen=True)
class Items:
    """Positives or negatives of some queries, one after the other; `query[i]` is the row of item `i`."""

    doc_ids: pa.Array
    texts: pa.Array
    scores: FloatArray
    lengths: LongArray
    """Of each query."""

    @classmethod
    def of(cls, lists: pa.ChunkedArray) -> Items:
        array = one_chunk(lists.chunks, lists.type)
        structs = list_values(array)
        doc_ids, texts = (pc.struct_field(structs, name).cast(_STRINGS) for name in ("doc_id", "text"))
        return cls(doc_ids, texts, pc.struct_field(structs, "score").to_numpy(), list_lengths(array))

    @property
    def query(self) -> LongArray:
        return np.repeat(np.arange(len(self.lengths), dtype=np.int64), self.lengths)

    @property
    def starts(self) -> LongArray:
        return offsets_of(self.lengths)[:-1]

    def take(self, at: LongArray) -> Items:
        """Some items as lists of one each."""
        rows = pa.array(at)
        return Items(self.doc_ids.take(rows), self.texts.take(rows), self.scores[at], np.ones(len(at), np.int64))

    def only(self, rows: LongArray) -> Items:
        """The lists of some queries."""
        at = positions_of(self.starts[rows], self.lengths[rows])
        return replace(self.take(at), lengths=self.lengths[rows])

    def lists(self, values: pa.Array) -> pa.Array:
        """Values of the items as a list for each query."""
        return pa.LargeListArray.from_arrays(pa.array(offsets_of(self.lengths)), values)

    def __add__(self, other: Items) -> Items:
        """The items of `other` behind those of this, query by query."""
        lengths = self.lengths + other.lengths
        order = np.argsort(np.concatenate([self.query, other.query]), kind="stable")
        rows = pa.array(order)
        return Items(
            pa.concat_arrays([self.doc_ids, other.doc_ids]).take(rows),
            pa.concat_arrays([self.texts, other.texts]).take(rows),
            np.concatenate([self.scores, other.scores])[order],
            lengths,
        )


@dataclass(frozen=True)
class Examples:
    """The labels of one part."""

    query_ids: pa.Array
    queries: pa.Array
    positives: Items
    negatives: Items

    @classmethod
    def of(cls, table: pa.Table) -> Examples:
        query_ids, queries = (one_chunk(table[name].chunks, _STRINGS) for name in ("query_id", "query"))
        return cls(query_ids, queries, Items.of(table["positives"]), Items.of(table["negatives"]))

    def __len__(self) -> int:
        return len(self.query_ids)

    def with_negatives(self, least: int = 1) -> LongArray:
        """The rows that have so many."""
        return np.flatnonzero(self.negatives.lengths >= least)

    def only(self, rows: LongArray) -> Examples:
        """Some of the queries."""
        at = pa.array(rows)
        return Examples(
            self.query_ids.take(at), self.queries.take(at), self.positives.only(rows), self.negatives.only(rows)
        )

    def pairs_of(self, rows: LongArray) -> tuple[LongArray, LongArray]:
        """Every positive with every negative of these rows: positions in `positives` and in `negatives`."""
        positive = positions_of(self.positives.starts[rows], self.positives.lengths[rows])
        query = self.positives.query[positive]
        lengths = self.negatives.lengths[query]
        return np.repeat(positive, lengths), positions_of(self.negatives.starts[query], lengths)
