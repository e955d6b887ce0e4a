"""The sample that is scored again: which pairs, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.activation import Activation
from reranker_batch.core.precision import Precision, choose_rows, choose_units, compare


@given(st.integers(0, 40), st.integers(0, 300))
def test_a_sample_is_spread_over_a_few_units_and_adds_up(units: int, sample: int) -> None:
    chosen = choose_units([f"u{at}" for at in range(units)], sample)
    assert sum(chosen.values()) == (sample if units else 0)
    assert len(chosen) <= 4
    assert all(count > 0 for count in chosen.values())
    if units >= 8 and sample >= 8:
        assert list(chosen) == [f"u{units * at // 4}" for at in range(4)]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(0, 60))
def test_rows_are_whole_queries_but_for_the_last(sizes: list[int], num_pairs: int) -> None:
    query = np.repeat(np.arange(len(sizes), dtype=np.int64) * 3, sizes)
    rows = choose_rows(query, num_pairs)
    assert len(rows) == min(num_pairs, len(query))
    assert (np.diff(rows) > 0).all()
    cut = 0
    for at in np.unique(query[rows]):
        own, all_of_it = rows[query[rows] == at], np.flatnonzero(query == at)
        assert own.tolist() == all_of_it[: len(own)].tolist()
        cut += len(own) < len(all_of_it)
    assert cut <= 1


def test_the_first_queries_of_a_sample_stand_far_apart() -> None:
    query = np.repeat(np.arange(100, dtype=np.int64), 2)
    assert np.unique(query[choose_rows(query, 6)]).tolist() == [0, 10, 20]


def test_differences_and_changed_places_are_those_of_the_kept_ranks() -> None:
    """In query 0 the first two swap; in query 5 the swap is below what is kept."""
    query, index = np.array([0, 0, 0, 5, 5, 5]), np.array([0, 1, 2, 0, 1, 2], dtype=np.int32)
    logits = np.array([3.0, 2.9, -1.0, 2.0, 1.0, 0.5], dtype=np.float32)
    exact = np.array([2.8, 2.9, -1.0, 2.0, 0.4, 0.5], dtype=np.float32)
    found = compare(query, index, logits, exact, top_n=2, activation=Activation())
    assert (found.pairs, found.places, found.changed_places) == (6, 4, 3)
    assert found.max_logit_difference == pytest.approx(0.6)
    assert found.mean_logit_difference == pytest.approx(0.8 / 6)
    assert found.max_score_difference == pytest.approx(1 / (1 + np.exp(-1.0)) - 1 / (1 + np.exp(-0.4)))
    one = compare(query, index, logits, exact, top_n=1, activation=Activation())
    assert (one.places, one.changed_places) == (2, 1)


def test_pairs_without_a_number_are_left_out() -> None:
    values = np.array([1.0, np.nan], dtype=np.float32)
    query, index = np.array([0, 0]), np.array([0, 1], dtype=np.int32)
    assert compare(query, index, values, values, top_n=None, activation=Activation()) == Precision(1, 0, 0, 0, 1, 0)
    assert compare(query[:0], index[:0], values[:0], values[:0], top_n=None, activation=Activation()) == Precision()


def test_what_units_found_adds_up() -> None:
    total = Precision(2, 0.5, 0.6, 0.1, 3, 1).add(Precision(4, 0.2, 0.6, 0.3, 5, 0))
    assert total == Precision(6, 0.5, 1.2, 0.3, 8, 1)
    assert total.to_dict()["mean_logit_difference"] == pytest.approx(0.2)
    assert Precision().mean_logit_difference == 0
