"""The rows of a run, a query after the other, its candidates best first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pair_texts import DistinctTexts
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray

Order = Literal["score", "rank", "place"]
"""What candidates are ordered by: the highest score, the lowest rank, or the place of the row in the files."""

ID_FIELDS = [pa.field("query_id", pa.large_string()), pa.field("doc_id", pa.large_string())]
ORDER_FIELDS: dict[Order, list[pa.Field]] = {
    "score": [pa.field("score", pa.float64())],
    "rank": [pa.field("rank", pa.int64())],
    "place": [pa.field("file", pa.int32()), pa.field("row", pa.int64())],
}
"""The columns of a run in addition to its ids."""


def run_schema(order: Order) -> pa.Schema:
    """A row of a run: a document proposed for a query."""
    return pa.schema([*ID_FIELDS, *ORDER_FIELDS[order]])


@dataclass(frozen=True)
class Kept:
    """The rows of a run that go on, sorted, and how many do not."""

    rows: pa.Table
    """`query_id`, `doc_id`, `score` and `rank`, the place within the query from 1 on."""
    repeated: int
    identical: int
    cut: int


def keep(rows: pa.Table, order: Order, *, depth: int | None, drop_identical: bool) -> Kept:
    """Sort rows by query and then by `order`; leave out what comes twice, what is the query itself, and what is deep.

    Ties are in the order of their document ids. Of rows with the same query and document the best stays.
    """
    rows = sort_rows(rows, order)
    total = len(rows)
    if drop_identical:
        rows = rows.filter(pc.not_equal(rows["query_id"], rows["doc_id"]))
    identical = total - len(rows)
    rows = rows.filter(pa.array(_is_first(rows)))
    repeated = total - identical - len(rows)
    place = places_within(rows["query_id"])
    whole = pa.table(
        {
            "query_id": rows["query_id"],
            "doc_id": rows["doc_id"],
            "score": rows["score"] if order == "score" else pa.nulls(len(rows), pa.float64()),
            "rank": pa.array((place + 1).astype(np.int32)),
        }
    )
    if depth is not None:
        whole = whole.filter(pa.array(place < depth))
    return Kept(whole, repeated, identical, len(rows) - len(whole))


def sort_rows(rows: pa.Table, order: Order) -> pa.Table:
    """By query id and `order`; equal rows are those that nothing tells apart."""
    keys = [("query_id", "ascending")]
    if order == "score":
        keys += [("score", "descending"), ("doc_id", "ascending")]
    elif order == "rank":
        keys += [("rank", "ascending"), ("doc_id", "ascending")]
    else:
        keys += [("file", "ascending"), ("row", "ascending")]
    return rows.take(pc.sort_indices(rows, sort_keys=keys)).combine_chunks()


def places_within(query_ids: pa.ChunkedArray) -> LongArray:
    """The place of each row within its query, from 0 on; rows of a query are neighbours."""
    starts = query_starts(query_ids)
    lengths = np.diff([*starts, len(query_ids)])
    return np.arange(len(query_ids), dtype=np.int64) - np.repeat(starts, lengths)


def query_starts(query_ids: pa.ChunkedArray) -> LongArray:
    """The rows at which a query begins."""
    if not len(query_ids):
        return np.empty(0, dtype=np.int64)
    codes = DistinctTexts.of(query_ids).at
    return np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]])).astype(np.int64)


def _is_first(rows: pa.Table) -> BoolArray:
    """Whether no row above has the same query and document."""
    queries, documents = DistinctTexts.of(rows["query_id"]), DistinctTexts.of(rows["doc_id"])
    pairs = queries.at * max(1, len(documents.texts)) + documents.at
    is_first = np.zeros(len(rows), dtype=np.bool_)
    is_first[np.unique(pairs, return_index=True)[1]] = True
    return is_first
