from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.config.gates import GatesConfig
from reranker_batch.core.counts import Counts
from reranker_batch.core.gates import failed_gate, gate_results, is_at_most


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_shares_are_compared_exactly(number: int, whole: int, billionths: int) -> None:
    percent = f"{billionths // 10**7}.{billionths % 10**7:07}%"
    assert is_at_most(percent, number, whole) == (number <= Fraction(billionths, 10**9) * whole)


@pytest.mark.parametrize("percent", [f"{tenths / 10:.1f}%" for tenths in range(1, 1000, 7)])
def test_a_share_that_is_just_met_is_met(percent: str) -> None:
    tenths = round(float(percent[:-1]) * 10)
    assert is_at_most(percent, tenths, 1000)
    assert not is_at_most(percent, tenths + 1, 1000)


def results(limits: dict[str, Any], *, overlap: float | None = None, ndcg: float | None = None) -> list[bool]:
    movement = {"queries": 7, "changed_queries": 2, "compared_with": "earlier", "overlap_at_10": {"mean": overlap}}
    metrics = {"queries": 3, "means": {"ndcg_at_10": ndcg}, "qrels": "qrels"}
    return [gate.is_met for gate in gate_results(GatesConfig(**limits), Counts(), movement, metrics)]


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.6, 0.7, 0.9, 1])
def test_the_rounding_of_a_mean_decides_nothing(limit: float) -> None:
    """Sums of overlaps are kept in steps of 2**-32."""
    rounded = int(limit * 2**32) / 2**32
    assert results({"min_overlap_at_10": limit}, overlap=rounded) == [True]
    assert results({"min_overlap_at_10": limit}, overlap=rounded - 1e-8) == [False]
    assert results({"min_ndcg_at_10": limit}, ndcg=limit - 1e-12) == [True]
    assert results({"min_ndcg_at_10": limit}, ndcg=None) == [False]


def test_limits_that_are_not_set_are_not_there_and_an_empty_output_has_no_share() -> None:
    assert results({}) == []
    assert gate_results(GatesConfig(max_truncated="0%"), Counts(), None, None)[0].is_met
    gate = failed_gate("0%", Counts())
    assert (gate.is_met, gate.value, gate.message) == (True, None, "")
