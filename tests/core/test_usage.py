"""What the queries of a unit use is what each of them would use alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.limits import RequestLimits, split_requests, total_tokens
from reranker_batch.core.usage import usage_of_queries

_LIMITS = st.builds(
    RequestLimits,
    max_documents=st.none() | st.integers(1, 4),
    max_item_tokens=st.just(20),
    max_request_tokens=st.none() | st.integers(1, 80),
    request_formula=st.sampled_from(["query_once", "query_per_document"]),
)


@given(queries=st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(0, 20), max_size=8))), limits=_LIMITS)
def test_requests_and_tokens_are_those_of_each_query(
    queries: list[tuple[int, list[int]]], limits: RequestLimits
) -> None:
    """Also where one document alone is over the limit, as when the limits leave no other way."""
    counts = [len(documents) for _, documents in queries]
    query_at = np.repeat(np.arange(len(queries)), counts)
    own = np.repeat(np.array([tokens for tokens, _ in queries], dtype=np.int32), counts)
    documents = np.array([tokens for _, documents in queries for tokens in documents], dtype=np.int32)
    requests, tokens = usage_of_queries(len(queries), query_at, own, documents, limits)
    formula: Literal["query_once", "query_per_document"] = limits.request_formula
    for at, (query, lengths) in enumerate(queries):
        alone = np.array(lengths, dtype=np.int64)
        assert requests[at] == len(split_requests(query, alone, limits))
        assert tokens[at] == total_tokens(query, alone, int(requests[at]), formula)
