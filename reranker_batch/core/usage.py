"""Requests and tokens of the queries of a unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reranker_batch.core.limits import RequestLimits, split_requests, total_tokens
from reranker_batch.core.ragged import IntArray, LongArray, runs_of


def usage_of_queries(
    num_queries: int,
    query_at: LongArray,
    query_tokens: IntArray | LongArray,
    document_tokens: IntArray | LongArray,
    limits: RequestLimits,
) -> tuple[IntArray, LongArray]:
    """How many requests each query takes and how many tokens they have; zeros for a query without candidates.

    `query_at` ascends; it and both arrays of tokens have shape [candidates], counted after the cut to the item
    maximum. Only queries that need several requests cost more than a few array operations.
    """
    requests, tokens = np.zeros(num_queries, dtype=np.int32), np.zeros(num_queries, dtype=np.int64)
    lists = _Lists.of(query_at, query_tokens, document_tokens, limits)
    queries = query_at[lists.starts]
    requests[queries], tokens[queries] = 1, lists.tokens
    for at, documents in lists.over(limits):
        query, own = int(queries[at]), int(lists.own[at])
        requests[query] = len(split_requests(own, documents, limits))
        tokens[query] = total_tokens(own, documents, int(requests[query]), limits.request_formula)
    return requests, tokens


def request_starts(
    query_at: LongArray,
    query_tokens: IntArray | LongArray,
    document_tokens: IntArray | LongArray,
    limits: RequestLimits,
) -> LongArray:
    """The first candidate of each request, ascending; the arrays are those of `usage_of_queries`."""
    lists = _Lists.of(query_at, query_tokens, document_tokens, limits)
    starts = [lists.starts]
    starts += [
        lists.starts[at] + split_requests(int(lists.own[at]), documents, limits)[1:]
        for at, documents in lists.over(limits)
    ]
    return np.sort(np.concatenate(starts))


@dataclass(frozen=True)
class _Lists:
    """The candidates of each query: where they begin, how many they are, and their tokens as one request."""

    starts: LongArray
    counts: LongArray
    own: LongArray
    """Tokens of the query."""
    tokens: LongArray
    document_tokens: IntArray | LongArray

    @classmethod
    def of(
        cls,
        query_at: LongArray,
        query_tokens: IntArray | LongArray,
        document_tokens: IntArray | LongArray,
        limits: RequestLimits,
    ) -> _Lists:
        starts, counts = runs_of(query_at)
        own = query_tokens[starts].astype(np.int64)
        times = np.ones_like(counts) if limits.request_formula == "query_once" else counts
        sums = np.add.reduceat(document_tokens.astype(np.int64), starts) if len(starts) else own
        return cls(starts, counts, own, own * times + sums, document_tokens)

    def over(self, limits: RequestLimits) -> Iterator[tuple[int, LongArray]]:
        """Those that do not fit into one request, each with the tokens of its documents."""
        fits = np.ones(len(self.tokens), dtype=np.bool_)
        if limits.max_request_tokens is not None:
            fits &= self.tokens <= limits.max_request_tokens
        if limits.max_documents is not None:
            fits &= self.counts <= limits.max_documents
        for at in np.flatnonzero(~fits).tolist():
            start = self.starts[at]
            yield at, self.document_tokens[start : start + self.counts[at]].astype(np.int64)
