"""Find the pair that kills a process: what is remembered of a unit's attempts, and how the next one goes about it.

The first attempt scores a unit as a whole. Once an attempt has died, the next goes in steps and says before
each which pairs it takes; a step that died is taken pair by pair; a pair that died alone twice is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from reranker_batch.core.pairs import PairScorer, PairScores
from reranker_batch.core.ragged import IntArray, LongArray, Ragged
from reranker_batch.errors import ReplicaError, RerankerBatchError, RowError

MAX_DEATHS = 16
"""Of one unit; isolating one pair takes four, and each further one in the unit at most three."""
_STRIKES = 2
"""Times that a pair died alone before it is refused: a process can die once for reasons of its own."""


@dataclass(frozen=True)
class Approach:
    """How an attempt scores its unit: plainly, or in steps with these pairs alone and those left out."""

    is_plain: bool
    alone: tuple[int, ...] = ()
    refused: Mapping[int, RowError] = field(default_factory=dict)


@dataclass
class UnitHistory:
    """What is known of one unit's attempts. Pairs are places among its model inputs."""

    attempts: int = 0
    deaths: int = 0
    is_running: bool = False
    in_flight: tuple[int, ...] = ()
    error: str = ""
    strikes: Counter[int] = field(default_factory=Counter)
    suspects: list[int] = field(default_factory=list)
    refused: dict[int, RowError] = field(default_factory=dict)

    def begin(self) -> Approach:
        """A new attempt; one that has not ended has died.

        Raises:
            ReplicaError: Too many have died.
        """
        self.attempts += 1
        if self.is_running:
            self._blame()
        if self.deaths > MAX_DEATHS:
            raise ReplicaError(
                f"{self.deaths} attempts to score it have ended with the death of the process.{self._why}"
            )
        self.is_running, self.in_flight, self.error = True, (), ""
        struck = [pair for pair, _ in self.strikes.most_common() if pair not in self.refused]
        alone = [*struck, *(pair for pair in self.suspects if pair not in self.strikes)]
        return Approach(self.deaths == 0, tuple(alone), dict(self.refused))

    def _blame(self) -> None:
        self.deaths += 1
        if len(self.in_flight) != 1:
            self.suspects = [*self.in_flight, *self.suspects]
            return
        (pair,) = self.in_flight
        self.strikes[pair] += 1
        if self.strikes[pair] >= _STRIKES:
            self.refused[pair] = self._refusal()

    def _refusal(self) -> RowError:
        return RowError(
            f"The process that scored this pair alone died {_STRIKES} times; "
            f"it took {self.deaths} attempts to find it.{self._why}",
            reason_code="scoring_failed" if self.error else "process_died",
        )

    @property
    def _why(self) -> str:
        return f" The last error was {self.error}" if self.error else ""


class Ledger:
    """The histories of all units and the starts of all replicas, kept where no replica's death reaches it."""

    def __init__(self, max_deaths: int, max_starts: int) -> None:
        self._max_deaths = max_deaths
        self._max_starts = max_starts
        self._units: dict[str, UnitHistory] = {}
        self._starts: Counter[str] = Counter()
        self._start_errors: dict[str, str] = {}
        self._verdict: RerankerBatchError | None = None
        self._deaths = 0

    def begin(self, unit_id: str) -> Approach:
        """An attempt begins; says how to go about it.

        Raises:
            ReplicaError: The unit, or the run as a whole, has had its share of attempts.
        """
        history = self._units.setdefault(unit_id, UnitHistory())
        self._deaths += history.is_running
        try:
            approach = history.begin()
        except ReplicaError as error:
            raise self.give_up(ReplicaError(f"Unit {unit_id} is given up: {error}", unit_id=unit_id)) from None
        if self._deaths > self._max_deaths:
            raise self.give_up(
                ReplicaError(
                    f"Replicas have died {self._deaths} times in this run, the last one on unit {unit_id}. Something "
                    "other than single pairs kills them: look at the memory of the nodes and at Ray's logs.",
                    unit_id=unit_id,
                )
            )
        return approach

    def take(self, unit_id: str, pairs: tuple[int, ...]) -> None:
        """These pairs are scored next, and nothing else."""
        self._units[unit_id].in_flight = pairs

    def fail(self, unit_id: str, error: str) -> None:
        """The process will die of this error."""
        self._units[unit_id].error = error

    def end(self, unit_id: str) -> None:
        self._units[unit_id].is_running = False

    def start(self, replica: str) -> None:
        """A process of a replica begins to load its model.

        Raises:
            ReplicaError: It has tried too often.
        """
        self._starts[replica] += 1
        if self._starts[replica] > self._max_starts:
            why = self._start_errors.get(replica) or "its process died, perhaps for want of memory"
            raise self.give_up(ReplicaError(f"A replica could not start in {self._max_starts} attempts: {why}"))

    def fail_start(self, replica: str, error: str) -> None:
        self._start_errors[replica] = error

    def started(self, replica: str) -> None:
        self._starts.pop(replica, None)

    def give_up(self, error: RerankerBatchError) -> RerankerBatchError:
        """Why the run has failed; the first reason counts."""
        self._verdict = self._verdict or error
        return error

    def verdict(self) -> RerankerBatchError | None:
        return self._verdict

    def running(self) -> list[str]:
        """Units that a replica has begun and not ended."""
        return sorted(unit_id for unit_id, history in self._units.items() if history.is_running)

    def attempts(self) -> dict[str, int]:
        """Attempts of the units that took more than one."""
        return {unit_id: history.attempts for unit_id, history in self._units.items() if history.attempts > 1}


class CarefulScorer:
    """Scores in steps, each announced before it is taken."""

    def __init__(self, scorer: PairScorer, approach: Approach, announce: Callable[[tuple[int, ...]], None]) -> None:
        self._scorer = scorer
        self._approach = approach
        self._announce = announce

    def score(self, input_ids: Ragged, first_segment: IntArray, *, one_by_one: bool = False) -> PairScores:
        """As the scorer inside, less the pairs to leave out."""
        logits = np.full(len(input_ids), np.nan, dtype=np.float32)
        refused, splits, way = dict(self._approach.refused), 0, ""
        for rows in _steps(input_ids.lengths, self._approach):
            self._announce(tuple(rows.tolist()))
            scores = self._scorer.score(input_ids.take(rows), first_segment[rows], one_by_one=one_by_one)
            logits[rows] = scores.logits
            refused.update({int(rows[at]): reason for at, reason in scores.refused.items()})
            splits += scores.oom_splits
            way = scores.way
        return PairScores(logits, refused, splits, way)


def _steps(lengths: LongArray, approach: Approach) -> Iterator[LongArray]:
    """Suspects one by one, then the rest by length in as many steps as a step has pairs."""
    for pair in approach.alone:
        yield np.array([pair])
    known = np.array([*approach.alone, *approach.refused], dtype=np.int64)
    rest = np.setdiff1d(np.arange(len(lengths)), known)
    rest = rest[np.argsort(-lengths[rest], kind="stable")]
    size = max(1, math.isqrt(len(rest)))
    for start in range(0, len(rest), size):
        yield rest[start : start + size]
