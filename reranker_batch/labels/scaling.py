"""Logits of teachers on a common scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reranker_batch.core.pairs import BoolArray, FloatArray

_TOP_BITS, _LOW_BITS = 16, 16
_QUANTILES = (0.25, 0.5, 0.75)
_LEAST_RANGE = 1e-6
"""Logits that differ less are one value, which no division makes a scale of."""
_STEPS = 100
_BINS = 4096
_REACH = 64.0
"""Of the histogram for calibration, in scaled units on both sides."""


@dataclass(frozen=True)
class Scale:
    """A score is `(logit - offset) / divisor`."""

    offset: float = 0.0
    divisor: float = 1.0

    @property
    def is_plain(self) -> bool:
        return (self.offset, self.divisor) == (0.0, 1.0)

    def scores(self, logits: FloatArray) -> FloatArray:
        """Float32 scores; a plain scale gives the logits as they are."""
        if self.is_plain:
            return logits
        scaled = (logits.astype(np.float64) - self.offset) / self.divisor
        return finite(scaled)


def finite(values: npt.NDArray[np.float64]) -> FloatArray:
    """As float32; what is beyond its range becomes its end, NaN stays."""
    end = np.finfo(np.float32).max
    return np.clip(values, -end, end).astype(np.float32)


def robust_scale(logits: Callable[[], Iterable[FloatArray]]) -> Scale:
    """Median and interquartile range of all logits; a range of almost 0 counts as 1, no logits as 0 and 1.

    `logits` is called twice and gives them in pieces, so that memory does not grow with them. The quartiles are exact
    order statistics: the value at place `floor(q * (n - 1))` of the sorted logits.
    """
    tops = sum((np.bincount(_ordered(piece) >> _LOW_BITS, minlength=1 << _TOP_BITS) for piece in logits()), _NO_COUNTS)
    num = int(tops.sum())
    if not num:
        return Scale()
    ends = np.cumsum(tops)
    places = [int(quantile * (num - 1)) for quantile in _QUANTILES]
    bins = np.searchsorted(ends, places, side="right")
    lows = _low_counts(logits(), bins)
    first, median, third = (
        _value(int(top), counts, place - int(ends[top] - tops[top]))
        for top, counts, place in zip(bins, lows, places, strict=True)
    )
    return Scale(median, third - first if third - first > _LEAST_RANGE else 1.0)


_NO_COUNTS: npt.NDArray[np.int64] = np.zeros(1 << _TOP_BITS, np.int64)


def _low_counts(pieces: Iterable[FloatArray], bins: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """For each bin, how often every value of the low bits occurs in it."""
    counts = [np.zeros(1 << _LOW_BITS, np.int64) for _ in bins]
    for piece in pieces:
        ordered = _ordered(piece)
        for top, count in zip(bins, counts, strict=True):
            low = ordered[ordered >> _LOW_BITS == top] & ((1 << _LOW_BITS) - 1)
            count += np.bincount(low, minlength=1 << _LOW_BITS)
    return counts


def _value(top: int, counts: npt.NDArray[np.int64], place: int) -> float:
    low = int(np.searchsorted(np.cumsum(counts), place, side="right"))
    bits = np.uint32((top << _LOW_BITS) | low)
    sign = np.uint32(1 << 31)
    plain = bits ^ sign if bits & sign else ~bits
    return float(np.array([plain], np.uint32).view(np.float32)[0])


def _ordered(logits: FloatArray) -> npt.NDArray[np.int64]:
    """Whole numbers in the order of the logits; -0.0 counts as 0.0."""
    bits = np.ascontiguousarray(logits + np.float32(0), np.float32).view(np.uint32)
    flipped = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return flipped.astype(np.int64)


@dataclass(frozen=True)
class Calibration:
    """Fits P(relevant) = sigmoid((logit - offset) / divisor) on judged candidates of the whole run.

    Logits are gathered in bins of a histogram around `start`, so that memory does not grow with them. Targets are
    Platt's: `(positives + 1) / (positives + 2)` and `1 / (negatives + 2)`, so that separable scores have a finite fit.
    """

    start: Scale

    def fit(self, pieces: Iterator[tuple[FloatArray, BoolArray]]) -> Scale:
        """`pieces` are logits, and which of them are of positives. Where nothing can be fitted, `start` stays."""
        counts, sums = np.zeros((2, _BINS), np.int64), np.zeros(_BINS)
        for logits, is_positive in pieces:
            scores = (logits.astype(np.float64) - self.start.offset) / self.start.divisor
            bins = np.clip((scores + _REACH) * (_BINS / 2 / _REACH), 0, _BINS - 1).astype(np.int64)
            sums += np.bincount(bins, weights=scores, minlength=_BINS)
            for side in (0, 1):
                counts[side] += np.bincount(bins[is_positive == bool(side)], minlength=_BINS)
        slope, intercept = _platt(counts, sums)
        if slope <= 0:
            return self.start
        divisor = self.start.divisor / slope
        return Scale(self.start.offset - intercept * divisor, divisor)


def _platt(counts: npt.NDArray[np.int64], sums: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on bins, by Newton's method; a slope of 0 where there is none."""
    total = counts.sum(axis=0)
    used = total > 0
    (negatives, positives), x = counts.sum(axis=1), sums[used] / total[used]
    if not negatives or not positives:
        return 0.0, 0.0
    weights = total[used].astype(np.float64)
    goal = (counts[1, used] * ((positives + 1) / (positives + 2)) + counts[0, used] / (negatives + 2)) / weights
    design = np.stack([x, np.ones_like(x)])
    fit = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(fit @ design, -500, 500)))
        gradient = design @ (weights * (goal - chance))
        spread = weights * chance * (1 - chance)
        hessian = (design * spread) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-30))
        fit = fit + step
        if np.abs(step).max() < 1e-10:
            break
    return float(fit[0]), float(fit[1])
