"""Agreement of teachers and scales, against other ways to compute them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.labels.scaling import Scale, robust_scale
from reranker_batch.labels.summary import GRID, Agreement, agreement_of

SCORES = st.floats(-20, 20, width=32).map(lambda value: round(value, 1))


@given(st.lists(st.lists(st.tuples(SCORES, SCORES), max_size=8), max_size=6))
def test_tau_is_kendalls_tau_b_over_the_queries_that_have_one(queries: list[list[tuple[float, float]]]) -> None:
    query = np.repeat(np.arange(len(queries)), [len(pairs) for pairs in queries]).astype(np.int64)
    flat = np.array([pair for pairs in queries for pair in pairs], np.float32).reshape(-1, 2)
    found = agreement_of(query, flat[:, 0], flat[:, 1])
    taus = [scipy.stats.kendalltau(*zip(*pairs, strict=True)).statistic for pairs in queries if len(pairs) > 1]
    known = [tau for tau in taus if not math.isnan(tau)]
    assert found.queries == len(known)
    assert found.tau_sum == pytest.approx(sum(known), abs=1e-6)
    assert sum(found.grid) == len(flat)
    assert len(found.grid) == GRID * GRID


def test_agreements_add_up() -> None:
    query, one, two = np.array([0, 0, 1, 1]), np.arange(4, dtype=np.float32), np.array([0, 1, 3, 2], np.float32)
    first, second = agreement_of(query[:2], one[:2], two[:2]), agreement_of(query[2:], one[2:], two[2:])
    assert first + second == agreement_of(query, one, two)
    assert (first + second).tau == 0
    assert Agreement().tau is None


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=9), max_size=6))
def test_a_robust_scale_has_the_exact_quartiles_of_all_pieces(pieces: list[list[float]]) -> None:
    scale = robust_scale(lambda: [np.array(piece, np.float32) for piece in pieces])
    values = np.sort(np.array([value for piece in pieces for value in piece], np.float32))
    if not len(values):
        assert scale == Scale()
        return
    first, median, third = (float(values[int(part * (len(values) - 1))]) for part in (0.25, 0.5, 0.75))
    assert scale == Scale(median, third - first if third - first > 1e-6 else 1.0)
    assert np.isfinite(scale.scores(values)).all()
