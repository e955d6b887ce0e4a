"""Score a unit in steps, so that a pair that ends the process can be identified."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from reranker_batch.core.inputs import ModelInputs, logit_places
from reranker_batch.core.pairs import PairScorer, PairScores, ignore_progress
from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import RowError


@dataclass(frozen=True)
class ScoringPlan:
    """How an attempt scores its unit: whole, or in steps with some pairs alone and some left out.

    Pairs are places among the unit's model inputs.
    """

    is_whole: bool
    alone: tuple[int, ...] = ()
    failures: Mapping[int, RowError] = field(default_factory=dict)


class IsolatingScorer:
    """Scores in steps and announces the pairs of each step first."""

    def __init__(self, scorer: PairScorer, plan: ScoringPlan, announce: Callable[[tuple[int, ...]], None]) -> None:
        self._scorer = scorer
        self._plan = plan
        self._announce = announce

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        """As the inner scorer, without the pairs that failed before."""
        logits = np.full(inputs.sizes.sum(), np.nan, dtype=np.float32)
        failures, splits, execution = dict(self._plan.failures), 0, ""
        done = 0
        for rows in _steps(inputs.costs, self._plan):
            self._announce(tuple(rows.tolist()))
            scores = self._scorer.score(inputs.take(rows), one_by_one=one_by_one)
            logits[logit_places(inputs, rows)] = scores.logits
            failures.update({int(rows[at]): reason for at, reason in scores.failures.items()})
            splits += scores.oom_splits
            execution = scores.execution
            done += int(inputs.costs[rows].sum())
            on_progress(done)
        return PairScores(logits, failures, splits, execution)


def _steps(costs: LongArray, plan: ScoringPlan) -> Iterator[LongArray]:
    """Suspects one by one, then the rest by length in about as many steps as a step has pairs."""
    for pair in plan.alone:
        yield np.array([pair])
    known = np.array([*plan.alone, *plan.failures], dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(costs)), known)
    rest = rest[np.argsort(-costs[rest], kind="stable")]
    size = max(1, math.isqrt(len(rest)))
    for start in range(0, len(rest), size):
        yield rest[start : start + size]
