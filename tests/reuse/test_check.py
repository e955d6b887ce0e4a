"""The sample of reused pairs that is scored again, and what is decided by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.reuse.check import check, sample_of, sample_sizes

LOGITS = np.array([-4.0, 0.0, 4.0, 8.0], dtype=np.float32)  # their standard deviation is 4.47


@pytest.mark.parametrize(
    ("moved", "dtype", "asked", "is_within"),
    [
        (9e-5, "float32", "auto", True),
        (1.2e-4, "float32", "auto", False),
        (0.13, "bfloat16", "auto", True),
        (0.14, "bfloat16", "auto", False),
        (0.14, "float16", 0.2, True),
        (0.0, "float32", 0.0, True),
        (np.nan, "bfloat16", 100.0, False),
        (np.inf, "float32", "auto", False),
    ],
)
def test_the_worst_pair_decides(moved: float, dtype: str, asked: float, is_within: bool) -> None:
    rescored = LOGITS.copy()
    rescored[1] += np.float32(moved)
    result = check(LOGITS, rescored, dtype=dtype, max_logit_difference=asked)
    assert result.is_within == is_within
    assert ("too much" in str(result)) != is_within


def test_no_pairs_and_equal_logits_are_within() -> None:
    assert check(LOGITS[:0], LOGITS[:0], dtype="bfloat16").is_within
    same = np.ones(3, dtype=np.float32)
    assert check(same, same, dtype="float16").tolerance == 1e-4


@given(units=st.integers(0, 50), pairs=st.integers(0, 300))
def test_the_sample_comes_from_a_few_units(units: int, pairs: int) -> None:
    sizes = sample_sizes(units, pairs)
    assert sum(sizes.values()) == (pairs if units else 0)
    assert len(sizes) == min(8, units, pairs)
    assert all(0 <= unit < units and count > 0 for unit, count in sizes.items())


@given(is_known=st.lists(st.booleans(), max_size=30), pairs=st.integers(0, 40))
def test_the_sample_of_a_unit_has_reused_pairs_each_once(is_known: list[bool], pairs: int) -> None:
    places = sample_of(np.array(is_known, dtype=np.bool_), pairs).tolist()
    assert len(set(places)) == len(places) == min(pairs, sum(is_known))
    assert all(is_known[at] for at in places)
