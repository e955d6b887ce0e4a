"""Differences to float32 scores, one pair at a time, measured on a few pairs of every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from reranker_batch.core.activation import Activation
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import IntArray, LongArray, runs_of
from reranker_batch.core.ranking import rank_candidates

_MAX_UNITS = 4
"""Units that give pairs to the sample: each may have to load the model once more."""


@dataclass(frozen=True)
class Precision:
    """Differences between two scorings of `pairs` pairs: sums and maxima, which add up over units."""

    pairs: int = 0
    max_logit_difference: float = 0.0
    sum_logit_difference: float = 0.0
    max_score_difference: float = 0.0
    places: int = 0
    """Ranks of the sample's queries, up to `top_n`."""
    changed_places: int = 0
    """Ranks that another candidate has in the second scoring."""

    @property
    def mean_logit_difference(self) -> float:
        return self.sum_logit_difference / self.pairs if self.pairs else 0.0

    def add(self, other: Precision) -> Precision:
        return Precision(
            self.pairs + other.pairs,
            max(self.max_logit_difference, other.max_logit_difference),
            self.sum_logit_difference + other.sum_logit_difference,
            max(self.max_score_difference, other.max_score_difference),
            self.places + other.places,
            self.changed_places + other.changed_places,
        )

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "mean_logit_difference": self.mean_logit_difference}


def choose_units(unit_ids: Sequence[str], sample: int) -> Mapping[str, int]:
    """How many pairs of which units are scored again: a few units, spread evenly over all."""
    count = min(_MAX_UNITS, len(unit_ids), sample)
    places = [len(unit_ids) * place // count for place in range(count)]
    return {unit_ids[place]: sample // count + (at < sample % count) for at, place in enumerate(places)}


def choose_rows(query: LongArray, num_pairs: int) -> LongArray:
    """Rows of whole queries spread over a unit, as far as they go; the last query gives its first candidates only.

    `query` has shape [candidates] and ascends.
    """
    starts, counts = runs_of(query)
    rows: list[LongArray] = []
    missing = min(num_pairs, len(query))
    for place in _spread(len(starts)):
        if missing <= 0:
            break
        rows.append(starts[place] + np.arange(min(counts[place], missing), dtype=np.int64))
        missing -= len(rows[-1])
    return np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)


def _spread(count: int) -> list[int]:
    """All places, in strides, so that the first few of them stand far apart."""
    stride = max(1, round(count**0.5))
    return [place for start in range(stride) for place in range(start, count, stride)]


def compare(
    query: LongArray,
    index: IntArray,
    logits: FloatArray,
    exact: FloatArray,
    *,
    top_n: int | None,
    activation: Activation,
) -> Precision:
    """The arrays have shape [pairs of the sample]; a pair that either scoring gave no number is left out."""
    is_finite = np.isfinite(logits) & np.isfinite(exact)
    query, index, logits, exact = query[is_finite], index[is_finite], logits[is_finite], exact[is_finite]
    if not len(logits):
        return Precision()
    distance = np.abs(logits.astype(np.float64) - exact)
    scores, exact_scores = (activation.scores(values) for values in (logits, exact))
    kept, exact_kept = (rank_candidates(query, index, values, top_n=top_n).order for values in (logits, exact))
    return Precision(
        pairs=len(logits),
        max_logit_difference=float(distance.max()),
        sum_logit_difference=float(distance.sum()),
        max_score_difference=float(np.abs(scores.astype(np.float64) - exact_scores).max()),
        places=len(kept),
        changed_places=int((kept != exact_kept).sum()),
    )
