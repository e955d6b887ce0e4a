"""Whether the model still gives what it gave: a sample of reused pairs is scored again before anything is published."""

from __future__ import annotations

from typing import Literal

import numpy as np

from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray, positions_of, runs_of
from reranker_batch.core.reuse import ReuseCheck

EXACT_TOLERANCE = 1e-4
"""Of a logit in float32: what another order of additions and another machine come to."""
HALF_SHARE = 0.03
"""In half precision, as a share of the standard deviation of the sample's logits."""
MAX_UNITS = 8
"""Units that give pairs to the sample."""


def check(
    reused: FloatArray, rescored: FloatArray, *, dtype: str, max_logit_difference: float | Literal["auto"] = "auto"
) -> ReuseCheck:
    """Compare the two logits of each pair of the sample; an empty sample shows nothing and is within."""
    distance = np.abs(rescored.astype(np.float64) - reused)
    distance[~np.isfinite(distance)] = np.inf
    tolerance = tolerance_of(reused, dtype) if max_logit_difference == "auto" else max_logit_difference
    return ReuseCheck.of(len(distance), float(distance.max(initial=0.0)), tolerance)


def tolerance_of(logits: FloatArray, dtype: str) -> float:
    """1e-4 in float32; in half precision 3 % of the standard deviation of the logits, and never less than that."""
    if dtype == "float32" or not len(logits):
        return EXACT_TOLERANCE
    return max(EXACT_TOLERANCE, HALF_SHARE * float(np.std(logits, dtype=np.float64)))


def sample_sizes(num_units: int, num_pairs: int) -> dict[int, int]:
    """How many pairs of which units, by their number: a few units, spread evenly over all."""
    count = min(MAX_UNITS, num_units, num_pairs)
    places = [num_units * place // count for place in range(count)]
    return {place: num_pairs // count + (at < num_pairs % count) for at, place in enumerate(places)}


def sample_of_lists(is_known: BoolArray, list_at: LongArray, num_pairs: int) -> LongArray:
    """As `sample_of`, but whole lists of candidates, of about so many pairs and at least one."""
    starts, counts = runs_of(list_at)
    known = np.flatnonzero(is_known[starts]) if num_pairs else np.empty(0, dtype=np.int64)
    if not len(known):
        return known
    count = min(len(known), max(1, round(num_pairs / float(counts[known].mean()))))
    chosen = known[np.arange(count) * len(known) // count]
    return positions_of(starts[chosen], counts[chosen])


def sample_of(is_known: BoolArray, num_pairs: int) -> LongArray:
    """Positions of reused pairs of a unit, spread evenly over them."""
    known = np.flatnonzero(is_known)
    count = min(num_pairs, len(known))
    return known[np.arange(count) * len(known) // max(count, 1)]
