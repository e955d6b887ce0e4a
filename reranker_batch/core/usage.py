"""Requests and tokens of the queries of a unit."""

from __future__ import annotations

import numpy as np

from reranker_batch.core.limits import RequestLimits, split_requests, total_tokens
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import IntArray, LongArray


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
    starts = np.flatnonzero(np.diff(query_at, prepend=-1))
    if not len(starts):
        return requests, tokens
    queries, own = query_at[starts], query_tokens[starts].astype(np.int64)
    counts = np.diff(starts, append=len(query_at))
    times = np.ones_like(counts) if limits.request_formula == "query_once" else counts
    whole = own * times + np.add.reduceat(document_tokens.astype(np.int64), starts)
    requests[queries], tokens[queries] = 1, whole
    for at in np.flatnonzero(~_fits(whole, counts, limits)):
        documents = document_tokens[starts[at] : starts[at] + counts[at]].astype(np.int64)
        query, query_own = int(queries[at]), int(own[at])
        requests[query] = len(split_requests(query_own, documents, limits))
        tokens[query] = total_tokens(query_own, documents, int(requests[query]), limits.request_formula)
    return requests, tokens


def _fits(whole: LongArray, counts: LongArray, limits: RequestLimits) -> BoolArray:
    """Whether all candidates of a query fit into one request."""
    fits = np.ones(len(whole), dtype=np.bool_)
    if limits.max_request_tokens is not None:
        fits &= whole <= limits.max_request_tokens
    if limits.max_documents is not None:
        fits &= counts <= limits.max_documents
    return fits
