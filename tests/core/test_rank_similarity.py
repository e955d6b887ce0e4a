import math
import string
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reranker_batch.core.ragged import Ragged
from reranker_batch.core.rank_matches import Matches, Rankings, match_first_stage, match_rankings
from reranker_batch.core.rank_similarity import is_changed, kendall_tau_b, overlap_at, rank_biased_overlap

List = list[tuple[int, int]]
"""Documents of one query with their scores, best first."""


@st.composite
def lists(draw: st.DrawFn, max_size: int = 12) -> List:
    documents = draw(st.lists(st.integers(0, 15), max_size=max_size, unique=True))
    scores = sorted((draw(st.integers(0, max_size)) for _ in documents), reverse=True)
    return list(zip(documents, scores, strict=True))


QUERIES = st.lists(st.tuples(lists(), lists()), max_size=6)


def rankings(queries: Sequence[List], *, with_scores: bool = True) -> Rankings:
    scores = np.array([score for query in queries for _, score in query], dtype=np.float32)
    documents = Ragged.from_lists([[document for document, _ in query] for query in queries])
    return Rankings(documents, scores if with_scores else None)


def matched(queries: Sequence[tuple[List, List]], *, with_scores: bool = True) -> Matches:
    before, after = [query[0] for query in queries], [query[1] for query in queries]
    return match_rankings(rankings(before, with_scores=with_scores), rankings(after, with_scores=with_scores))


def ranks(ranked: List, *, with_scores: bool) -> dict[int, int]:
    """1-based rank of each document; tied ones stand at the first of their ranks."""
    values = [score for _, score in ranked]
    return {document: (values.index(score) if with_scores else at) + 1 for at, (document, score) in enumerate(ranked)}


def slow_rbo(before: List, after: List, p: float, *, with_scores: bool = True) -> float:
    """Depth by depth from the definitions in the paper."""
    shorter, longer = sorted((before, after), key=len)
    if not longer:
        return math.nan
    if not shorter:
        return 0.0
    short_ranks, long_ranks = (ranks(ranked, with_scores=with_scores) for ranked in (shorter, longer))

    def agreement(depth: int) -> float:
        one = {document for document, rank in short_ranks.items() if rank <= depth}
        two = {document for document, rank in long_ranks.items() if rank <= depth}
        unseen = max(0, depth - len(shorter))
        extrapolated = unseen * agreement(len(shorter)) if unseen else 0.0
        return 2 * (len(one & two) + extrapolated) / (len(one) + unseen + len(two))

    agreements = [agreement(depth) for depth in range(1, len(longer) + 1)]
    series = sum(value * p**depth for depth, value in enumerate(agreements, start=1))
    return (1 - p) / p * series + agreements[-1] * p ** len(longer)


def slow_tau(before: List, after: List) -> float:
    one, two = ranks(before, with_scores=True), ranks(after, with_scores=True)
    shared = sorted(one.keys() & two.keys())
    if len(shared) < 2:
        return math.nan
    return float(stats.kendalltau([one[d] for d in shared], [two[d] for d in shared], variant="b").statistic)


def slow_overlap(before: List, after: List, depth: int) -> float:
    one, two = ({document for document, _ in ranked[:depth]} for ranked in (before, after))
    return len(one & two) / max(len(one), len(two)) if one or two else math.nan


@given(QUERIES, st.sampled_from([0.5, 0.9, 0.99]))
def test_rank_biased_overlap_is_that_of_the_definition(queries: list[tuple[List, List]], p: float) -> None:
    for with_scores in (True, False):
        fast = rank_biased_overlap(matched(queries, with_scores=with_scores), persistence=p)
        slow = [slow_rbo(*query, p, with_scores=with_scores) for query in queries]
        np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-12)


@given(QUERIES)
def test_rank_biased_overlap_without_ties_is_equation_32(queries: list[tuple[List, List]]) -> None:
    fast, p = rank_biased_overlap(matched(queries, with_scores=False)), 0.9
    for value, (before, after) in zip(fast, queries, strict=True):
        shorter, longer = sorted(([d for d, _ in before], [d for d, _ in after]), key=len)
        s, l = len(shorter), len(longer)  # noqa: E741  # the paper's names
        if not s:
            continue
        x = [len(set(shorter[:d]) & set(longer[:d])) for d in range(l + 1)]
        series = sum(x[d] / d * p**d for d in range(1, l + 1))
        series += sum(x[s] * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
        assert value == pytest.approx((1 - p) / p * series + ((x[l] - x[s]) / l + x[s] / s) * p**l, abs=1e-12)


def of_letters(before: str, after: str, p: float = 0.9) -> float:
    queries = [([(ord(letter), -at) for at, letter in enumerate(text)]) for text in (before, after)]
    return float(rank_biased_overlap(matched([(queries[0], queries[1])]), persistence=p)[0])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ("f", 0.053090),
        ("bj", 0.474895),
        ("bqlc", 0.462787),
        ("zclx", 0.233312),
        ("bafnecwvlog", 0.620766),
        ("ifwokdeapxtvys", 0.314143),
        ("aekrhvyoxtn", 0.470227),
        ("karfvodcjmwgzlypebunq", 0.468431),
        ("ujdzwvacgkylfqmbtsperhino", 0.366963),
    ],
)
def test_rank_biased_overlap_has_published_values(other: str, expected: float) -> None:
    """Of the alphabet and another list, by William Webber's own program (in the tests of the Rust crate rbo)."""
    assert of_letters(string.ascii_lowercase, other) == pytest.approx(expected, abs=2e-6)
    assert of_letters(other, string.ascii_lowercase) == pytest.approx(expected, abs=2e-6)


def test_rank_biased_overlap_with_ties_has_the_published_value() -> None:
    """RBO^w of Corsi and Urbano, "The Treatment of Ties in Rank-Biased Overlap" (2024), in the manual of their code."""
    red, blue, green, yellow, pink, white, black, purple = range(8)
    before = [(red, 9), (blue, 8), (green, 8), (yellow, 7), (pink, 6)]
    after = [(blue, 9), (red, 9), (white, 8), (yellow, 7), (black, 7), (purple, 7), (green, 6)]
    assert rank_biased_overlap(matched([(before, after)]), persistence=0.95)[0] == pytest.approx(0.7068257, abs=1e-7)


@given(QUERIES)
def test_kendall_tau_b_is_scipys(queries: list[tuple[List, List]]) -> None:
    np.testing.assert_allclose(kendall_tau_b(matched(queries)), [slow_tau(*query) for query in queries], rtol=1e-12)


@given(QUERIES, st.integers(1, 10))
def test_overlap_and_change_are_those_of_the_first_documents(queries: list[tuple[List, List]], depth: int) -> None:
    matches = matched(queries)
    np.testing.assert_allclose(overlap_at(matches, depth=depth), [slow_overlap(*q, depth) for q in queries])
    first = [tuple([document for document, _ in ranked[:depth]] for ranked in query) for query in queries]
    assert is_changed(matches, depth=depth).tolist() == [before != after for before, after in first]


@given(QUERIES)
def test_a_document_that_comes_twice_counts_at_its_best_place(queries: list[tuple[List, List]]) -> None:
    doubled = [([*before, *before[:2]], after) for before, after in queries]
    scored = [([(d, -at) for at, (d, _) in enumerate(before)], after) for before, after in doubled]
    once = [([(d, -at) for at, (d, _) in enumerate(before)], after) for before, after in queries]
    matches, expected = matched(scored), matched(once)
    assert matches.num_repeats == sum(len(before[:2]) for before, _ in queries)
    for measure in (rank_biased_overlap, kendall_tau_b):
        np.testing.assert_array_equal(measure(matches), measure(expected))
    assert np.array_equal(is_changed(matches, depth=10), is_changed(expected, depth=10))


def test_a_repeat_lets_what_follows_move_up() -> None:
    before, after = [(1, 9), (1, 8), (2, 7)], [(1, 9), (2, 8)]
    assert not is_changed(matched([(before, after)]), depth=10)[0]


@given(st.lists(st.tuples(st.permutations(range(9)), st.integers(0, 9)), max_size=5))
def test_the_first_stage_is_known_from_the_places_of_the_kept_candidates(
    queries: list[tuple[list[int], int]],
) -> None:
    """Against lists of all nine candidates, cut to as many as were kept."""
    kept = [order[:num_kept] for order, num_kept in queries]
    matches = match_first_stage(
        np.array([index for order in kept for index in order], dtype=np.int32),
        np.array([len(order) for order in kept], dtype=np.int64),
    )
    whole = [([(index, -index) for index in range(len(o))], [(d, -at) for at, d in enumerate(o)]) for o in kept]
    expected = matched(whole)
    np.testing.assert_allclose(rank_biased_overlap(matches), rank_biased_overlap(expected), rtol=1e-12)
    np.testing.assert_allclose(overlap_at(matches, depth=5), overlap_at(expected, depth=5))
    assert np.array_equal(is_changed(matches, depth=5), is_changed(expected, depth=5))
    taus = [stats.kendalltau(range(len(order)), order).statistic if len(order) > 1 else math.nan for order in kept]
    np.testing.assert_allclose(kendall_tau_b(matches), taus, rtol=1e-12)


def test_ranks_beyond_what_16_bits_hold_are_compared_as_well() -> None:
    number = 70_000
    forward = [[(document, -document) for document in range(number)]]
    backward = [[(document, document) for document in reversed(range(number))]]
    matches = match_rankings(rankings(forward, with_scores=False), rankings(backward, with_scores=False))
    assert kendall_tau_b(matches)[0] == -1
    assert overlap_at(matches, depth=number)[0] == 1
