"""What the decisions about a unit add up to: counts by fate, margins, agreement of teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from reranker_batch.core.distribution import Distribution
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import LongArray, positions_of
from reranker_batch.labels.candidates import Candidates
from reranker_batch.labels.deciding import Decided, counts_of, is_one_of
from reranker_batch.labels.groups import count_of
from reranker_batch.labels.reasons import NEGATIVES, POSITIVES, Fate

MARGIN_EDGES = tuple(quarter / 4 for quarter in range(-16, 49))
"""In the units of the scores: from -4 to 12."""
GRID = 24
"""Bins of a scatter plot on each side, from `-GRID_REACH` to `GRID_REACH`; values beyond are in the outer bins."""
GRID_REACH = 6.0
_MOST_MARGIN = np.float32(1000)
"""What is beyond counts as much in the mean, which no single teacher out of range is to decide."""
_MOST_RANKED = 64
"""Candidates of a query that Kendall's tau looks at, the first ones."""


@dataclass(frozen=True)
class Agreement:
    """Of two teachers. `tau_sum` is over the `queries` that have two candidates or more with different scores."""

    queries: int = 0
    tau_sum: float = 0.0
    grid: tuple[int, ...] = (0,) * (GRID * GRID)
    """Candidates by the score of the first teacher (rows) and of the second."""

    def __add__(self, other: Agreement) -> Agreement:
        grid = tuple(one + two for one, two in zip(self.grid, other.grid, strict=True))
        return Agreement(self.queries + other.queries, self.tau_sum + other.tau_sum, grid)

    @property
    def tau(self) -> float | None:
        return self.tau_sum / self.queries if self.queries else None


@dataclass(frozen=True)
class Summary:
    """Of one unit or of several; sums in the order of the units are the same in every attempt."""

    queries: int
    """In the input."""
    labelled: int
    """Queries with a row of labels."""
    fates: tuple[int, ...]
    """Candidates by `Fate`."""
    margins: Distribution = field(default=Distribution.empty(MARGIN_EDGES))
    """Of the negatives."""
    agreements: tuple[Agreement, ...] = ()
    """Of each two teachers, in the order of `combinations`."""

    @classmethod
    def empty(cls, num_teachers: int) -> Summary:
        pairs = num_teachers * (num_teachers - 1) // 2
        return cls(0, 0, (0,) * len(Fate), agreements=(Agreement(),) * pairs)

    @classmethod
    def of(cls, candidates: Candidates, decided: Decided) -> Summary:
        places, is_scored = candidates.places, candidates.is_scored
        has_label = count_of(places.query, is_one_of(decided.fate, POSITIVES), places.num_queries) > 0
        margins = np.clip(decided.margin[is_one_of(decided.fate, NEGATIVES)], -_MOST_MARGIN, _MOST_MARGIN)
        return cls(
            queries=places.num_queries,
            labelled=int(has_label.sum()),
            fates=tuple(counts_of(decided.fate).tolist()),
            margins=Distribution.of(margins, MARGIN_EDGES),
            agreements=tuple(
                agreement_of(places.query[is_scored], one[is_scored], two[is_scored])
                for one, two in combinations(decided.scaled, 2)
            ),
        )

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            self.queries + other.queries,
            self.labelled + other.labelled,
            tuple(one + two for one, two in zip(self.fates, other.fates, strict=True)),
            self.margins + other.margins,
            tuple(one + two for one, two in zip(self.agreements, other.agreements, strict=True)),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Summary:
        """Read what `asdict` and JSON give."""
        margins = values["margins"]
        return cls(
            values["queries"],
            values["labelled"],
            tuple(values["fates"]),
            Distribution(tuple(margins["edges"]), tuple(margins["counts"]), margins["scaled_sum"]),
            tuple(Agreement(one["queries"], one["tau_sum"], tuple(one["grid"])) for one in values["agreements"]),
        )

    @property
    def candidates(self) -> int:
        return sum(self.fates)

    def number(self, *fates: Fate) -> int:
        return sum(self.fates[fate] for fate in fates)

    @property
    def dropped(self) -> dict[str, int]:
        """Candidates by the reason why they were dropped, those that occur."""
        kept = (*POSITIVES, *NEGATIVES)
        return {fate.code: self.fates[fate] for fate in Fate if fate not in kept and self.fates[fate]}


def agreement_of(query: LongArray, one: FloatArray, two: FloatArray) -> Agreement:
    """Of two teachers' scores for the candidates of some queries; equal queries are neighbours."""
    taus = _taus(query, one, two)
    near = (np.clip(of, -GRID_REACH, GRID_REACH) for of in (one, two))
    bins = [np.clip((of + GRID_REACH) * (GRID / 2 / GRID_REACH), 0, GRID - 1).astype(np.int64) for of in near]
    grid = np.bincount(bins[0] * GRID + bins[1], minlength=GRID * GRID)
    return Agreement(len(taus), float(taus.sum()), tuple(grid.tolist()))


def _taus(query: LongArray, one: FloatArray, two: FloatArray) -> npt.NDArray[np.float64]:
    """Kendall's tau-b of each query that has one."""
    starts = np.flatnonzero(np.append(True, query[1:] != query[:-1])) if len(query) else np.empty(0, np.int64)
    lengths = np.minimum(np.diff(np.append(starts, len(query))), _MOST_RANKED)
    firsts = positions_of(starts, lengths)
    after = np.repeat(starts + lengths, lengths) - firsts - 1
    left, right = np.repeat(firsts, after), positions_of(firsts + 1, after)
    owner = np.repeat(np.repeat(np.arange(len(starts)), lengths), after)
    signs = [np.sign(of[left].astype(np.float64) - of[right]) for of in (one, two)]
    same, *untied = (np.bincount(owner, of, len(starts)) for of in (signs[0] * signs[1], *map(np.abs, signs)))
    size = np.sqrt(untied[0] * untied[1])
    return np.asarray(same[size > 0] / size[size > 0])


def total(summaries: Sequence[Summary], num_teachers: int) -> Summary:
    """All units together."""
    return sum(summaries, Summary.empty(num_teachers))
