from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.limits import PROFILES, RequestLimits, resolve_limits, split_requests, total_tokens
from reranker_batch.errors import ConfigError

FORMULAS = st.sampled_from(["query_once", "query_per_document"])


def request_tokens(query: int, documents: list[int], formula: str) -> int:
    """The two formulas as the services write them."""
    times = 1 if formula == "query_once" else len(documents)
    return query * times + sum(documents)


def requests_of(documents: list[int], starts: list[int]) -> list[list[int]]:
    return [documents[start:stop] for start, stop in pairwise([*starts, len(documents)])]


@given(
    st.integers(0, 50),
    st.lists(st.integers(0, 50), max_size=60),
    st.one_of(st.none(), st.integers(1, 20)),
    st.one_of(st.none(), st.integers(100, 300)),
    FORMULAS,
)
def test_requests_fill_in_order_until_the_next_candidate_would_break_a_limit(
    query: int, documents: list[int], most: int | None, tokens: int | None, formula: str
) -> None:
    limits = RequestLimits(most, 50, tokens, formula)  # type: ignore[arg-type]
    requests = requests_of(documents, split_requests(query, np.array(documents, dtype=np.int64), limits).tolist())
    assert [document for request in requests for document in request] == documents
    for request in requests:
        assert request
        assert most is None or len(request) <= most
        assert tokens is None or request_tokens(query, request, formula) <= tokens
    for request, following in pairwise(requests):
        longer = [*request, following[0]]
        is_over_tokens = tokens is not None and request_tokens(query, longer, formula) > tokens
        assert is_over_tokens or (most is not None and len(longer) > most)


@given(st.integers(0, 50), st.lists(st.integers(0, 50), min_size=1, max_size=60), FORMULAS)
def test_total_tokens_add_the_requests_up(query: int, documents: list[int], formula: str) -> None:
    limits = RequestLimits(7, 50, 200, formula)  # type: ignore[arg-type]
    lengths = np.array(documents, dtype=np.int64)
    requests = requests_of(documents, split_requests(query, lengths, limits).tolist())
    expected = sum(request_tokens(query, request, formula) for request in requests)
    assert total_tokens(query, lengths, len(requests), formula) == expected  # type: ignore[arg-type]


def test_profiles_have_the_published_numbers() -> None:
    assert PROFILES["gte-rerank-v2"].limits == RequestLimits(500, 4_000, 30_000, "query_once")
    assert PROFILES["qwen3-rerank"].limits == RequestLimits(500, 4_000, 120_000, "query_per_document")
    assert PROFILES["none"].limits == RequestLimits()


def test_the_qwen_formula_counts_the_query_for_every_document() -> None:
    """A query of 4,000 tokens leaves room for 15 documents of 4,000 in 120,000 tokens, not for 29."""
    limits = PROFILES["qwen3-rerank"].limits
    starts = split_requests(4_000, np.full(40, 4_000), limits)
    assert starts.tolist() == [0, 15, 30]


def resolve(profile: str = "gte-rerank-v2", model_max: int = 512, **overrides: int) -> RequestLimits:
    return resolve_limits(profile, dict(overrides), model_max_pair_tokens=model_max, num_special_tokens=3)


def test_single_values_override_the_profile() -> None:
    limits = resolve(max_documents=20, max_pair_tokens=256)
    assert limits == RequestLimits(20, 4_000, 30_000, "query_once", 256)


def test_a_pair_is_never_longer_than_the_model_reads() -> None:
    assert resolve(max_pair_tokens=8_192).max_pair_tokens == 512


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_request_tokens": 7_999}, "7999 cannot hold a query and one document .*4000 each \\(8000 tokens\\)"),
        ({"max_pair_tokens": 12}, "max_pair_tokens=12 leaves no token for a document"),
    ],
)
def test_limits_that_no_request_can_meet_are_refused_with_the_numbers(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(**overrides)


def test_a_request_limit_needs_an_item_limit() -> None:
    with pytest.raises(ConfigError, match="max_request_tokens=100 without limits.max_item_tokens"):
        resolve("none", max_request_tokens=100)


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'gte' is not known. Known: gte-rerank-v2, none, qwen3-rerank"):
        resolve("gte")
