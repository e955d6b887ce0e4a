"""Histograms with fixed bins and exact sums, which add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_FRACTION_BITS = 32
_LOW_BITS = 24


@dataclass(frozen=True)
class Histogram:
    """A distribution as report.json has it: the sum is gone."""

    count: int
    mean: float | None
    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class Distribution:
    """Counts of values in fixed bins, and their sum.

    Bin `i` holds `edges[i - 1] <= value < edges[i]`; the first and the last bin are open. NaN is not counted. The sum
    is in units of 2**-32, a whole number, so that parts add up to the same in whatever order and grouping.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    scaled_sum: int = 0

    @classmethod
    def empty(cls, edges: Sequence[float]) -> Distribution:
        return cls(tuple(edges), (0,) * (len(edges) + 1))

    @classmethod
    def of(cls, values: npt.NDArray[Any], edges: Sequence[float]) -> Distribution:
        """Of float or whole values below 2**30 in amount."""
        numbers = values[~np.isnan(values)].astype(np.float64)
        counts = np.bincount(np.searchsorted(edges, numbers, side="right"), minlength=len(edges) + 1)
        return cls(tuple(edges), tuple(counts.tolist()), _exact_sum(numbers))

    def __add__(self, other: Distribution) -> Distribution:
        assert self.edges == other.edges
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Distribution(self.edges, counts, self.scaled_sum + other.scaled_sum)

    @property
    def num_values(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """None without values."""
        return self.scaled_sum / self.num_values / 2**_FRACTION_BITS if self.num_values else None

    def histogram(self) -> Histogram:
        return Histogram(self.num_values, self.mean, list(self.edges), list(self.counts))

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        return asdict(self.histogram())


def _exact_sum(numbers: npt.NDArray[np.float64]) -> int:
    """In units of 2**-32; high and low bits are added apart, so that no sum overflows."""
    scaled = np.rint(numbers * 2**_FRACTION_BITS).astype(np.int64)
    high, low = scaled >> _LOW_BITS, scaled & ((1 << _LOW_BITS) - 1)
    return (int(high.sum()) << _LOW_BITS) + int(low.sum())
