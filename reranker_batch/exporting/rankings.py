"""The results of an output as evaluation tools read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.exporting.formats import Exported
from reranker_batch.exporting.strict_scores import strictly_decreasing
from reranker_batch.storage.output.ranked_lists import column_of
from reranker_batch.storage.values import list_lengths


class Ranked(Protocol):
    """What has ranked lists: an output, or labels."""

    @property
    def num_queries(self) -> int:
        """With those that have no results."""

    @property
    def model(self) -> tuple[str, str | None]:
        """Name and revision."""

    def ranked_lists(self, columns: Sequence[str] = ...) -> Iterator[pa.Table]:
        """The lists by query, as `read_ranked_lists` has them."""


@dataclass(frozen=True)
class Rankings:
    """Some whole queries: ids of queries and documents, ranks and scores for every result, query by query."""

    query_ids: pa.Array
    doc_ids: pa.Array
    ranks: LongArray
    """From 1, without gaps."""
    scores: FloatArray
    """Logits, made strictly decreasing within each query."""


def read_rankings(output: Ranked, exported: Exported) -> Iterator[Rankings]:
    """Yield the results of an output in the order of its parts: a query id once, and each of its documents once.

    Logits serve as scores, since relevance scores saturate: in float32 a sigmoid is 1 for every logit above 17.

    Raises:
        CommitError: A part cannot be read.
    """
    first_only = _FirstOfQuery.among(output)
    for lists in output.ranked_lists():
        is_first = first_only.mask(lists["query_id"])
        exported.repeated_queries += int((~is_first).sum())
        rankings = _rankings(lists.filter(pa.array(is_first)), exported)
        exported.queries += int((rankings.ranks == 1).sum())
        exported.documents += len(rankings.ranks)
        yield rankings
    with_results = exported.queries + exported.repeated_queries
    exported.empty_queries = output.num_queries - with_results


def _rankings(lists: pa.Table, exported: Exported) -> Rankings:
    documents = column_of(lists, "doc_id")
    doc_ids, lengths = documents.flatten(), list_lengths(documents)
    query = np.repeat(np.arange(len(lengths)), lengths)
    kept = _best_places(query, doc_ids)
    exported.repeated_documents += len(query) - len(kept)
    query, lengths = query[kept], np.bincount(query[kept], minlength=len(lengths))
    logits = column_of(lists, "logit").flatten().to_numpy()[kept]
    return Rankings(
        query_ids=column_of(lists, "query_id").take(pa.array(query)),
        doc_ids=doc_ids.take(pa.array(kept)),
        ranks=np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1,
        scores=strictly_decreasing(logits, lengths),
    )


def _best_places(query: LongArray, doc_ids: pa.Array) -> LongArray:
    """The first place of each document in the list of its query, in order."""
    codes = doc_ids.dictionary_encode().indices.to_numpy().astype(np.int64)
    keys = query * (int(codes.max(initial=0)) + 1) + codes
    return np.sort(np.unique(keys, return_index=True)[1])


@dataclass
class _FirstOfQuery:
    """Which rows are the first with their query id. Takes eight bytes a query, and the ids that do repeat."""

    repeated: np.ndarray[tuple[int], np.dtype[np.uint64]]
    """Sorted hashes that several rows have."""
    seen: set[str]

    @classmethod
    def among(cls, output: Ranked) -> _FirstOfQuery:
        hashes = [_hashes(lists["query_id"]) for lists in output.ranked_lists(("index",))]
        values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *hashes]), return_counts=True)
        return cls(values[counts > 1], set())

    def mask(self, query_ids: pa.ChunkedArray) -> BoolArray:
        is_first = np.ones(len(query_ids), dtype=np.bool_)
        may_repeat = np.flatnonzero(np.isin(_hashes(query_ids), self.repeated))
        for at, query_id in zip(may_repeat, query_ids.take(pa.array(may_repeat)).to_pylist(), strict=True):
            is_first[at] = query_id not in self.seen
            self.seen.add(query_id)
        return is_first


def _hashes(query_ids: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return pl.Series(pl.from_arrow(query_ids)).hash().to_numpy()
