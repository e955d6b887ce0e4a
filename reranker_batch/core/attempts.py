"""Which attempts at a unit died, which pair is to blame, and whether everything that has work still moves.

The first attempt scores a unit as a whole. Once an attempt has died, the next one goes in steps and announces the pairs
of each; a step that died is taken pair by pair; a pair that died alone twice fails for good.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from reranker_batch.core.isolation import ScoringPlan
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.errors import ReplicaError, RerankerBatchError, RowError

MAX_DEATHS = 16
"""Of one unit; isolating one pair takes four, and each further one in the unit at most three."""
MAX_STARTS = 3
"""Of one replica in a row, where its model or its node is to blame."""
_MAX_LOST_STARTS = 16
"""Of one replica in a row, where each time its node went away while the model was loaded."""
_DEATHS_ALONE = 2
"""Times that a pair died alone before it fails for good: a process can die once for reasons of its own."""


def max_deaths(num_units: int) -> int:
    """Deaths of replicas that a run takes: all that one unit may cost, and one for every unit."""
    return MAX_DEATHS + num_units


@dataclass
class UnitHistory:
    """Attempts at one unit. Pairs are places among its model inputs."""

    attempts: int = 0
    deaths: int = 0
    is_running: bool = False
    replica: str = ""
    heard_at: float = 0.0
    scored: int = 0
    in_flight: tuple[int, ...] = ()
    error: str = ""
    deaths_alone: Counter[int] = field(default_factory=Counter)
    suspects: list[int] = field(default_factory=list)
    failures: dict[int, RowError] = field(default_factory=dict)

    def begin(self) -> ScoringPlan:
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
        self.is_running, self.in_flight, self.error, self.scored = True, (), "", 0
        alone = [pair for pair, _ in self.deaths_alone.most_common() if pair not in self.failures]
        alone += [pair for pair in self.suspects if pair not in self.deaths_alone]
        return ScoringPlan(self.deaths == 0, tuple(alone), dict(self.failures))

    def _blame(self) -> None:
        self.deaths += 1
        if len(self.in_flight) != 1:
            self.suspects = [*self.in_flight, *self.suspects]
            return
        (pair,) = self.in_flight
        self.deaths_alone[pair] += 1
        if self.deaths_alone[pair] >= _DEATHS_ALONE:
            self.failures[pair] = self._failure()

    def _failure(self) -> RowError:
        return RowError(
            f"The process that scored this pair alone died {_DEATHS_ALONE} times; "
            f"it took {self.deaths} attempts to find it.{self._why}",
            reason_code="scoring_failed" if self.error else "process_died",
        )

    @property
    def _why(self) -> str:
        return f" The last error was {self.error}" if self.error else ""


@dataclass
class _Starts:
    """Attempts of one replica to load its model, in a row."""

    node: str = ""
    of_node: int = 0
    lost: int = 0
    error: str = ""

    def add(self, node: str) -> None:
        """A start on another node, after one that said nothing, is put down to the node that went away."""
        if self.of_node and node != self.node and not self.error:
            self.lost += 1
            self.of_node = 0
        self.node = node
        self.of_node += 1


@dataclass(frozen=True)
class Pulse:
    """What a run looks like at a moment, for progress and for who waits for it."""

    scored: int
    """Pairs of the units that are being scored."""
    silent: tuple[tuple[str, str, float], ...]
    """Unit, replica and seconds since the last word, of every unit that is being scored."""
    idle_s: float
    """Seconds since anything was heard."""
    is_starting: bool
    """No replica is up yet, or some are loading their model and none is at work."""
    is_loading: bool = False

    @property
    def phase(self) -> str:
        if not self.is_starting:
            return "scoring"
        return "loading the model" if self.is_loading else "starting"


class ReplicaListener(Protocol):
    """What a replica tells, and asks, before a step that may end its process. The tracker, or a way to reach it."""

    def start(self, replica: str, node: str) -> None: ...

    def fail_start(self, replica: str, error: str) -> None: ...

    def started(self, replica: str) -> None: ...

    def begin(self, unit_id: str, replica: str) -> ScoringPlan: ...

    def announce(self, unit_id: str, pairs: tuple[int, ...]) -> None: ...

    def report(self, unit_id: str, scored: int) -> None: ...

    def fail(self, unit_id: str, error: str) -> None: ...

    def end(self, unit_id: str) -> None: ...

    def give_up(self, error: RerankerBatchError) -> object: ...

    def reuse_checked(self, check: ReuseCheck) -> bool: ...


class AttemptTracker:
    """The histories of all units and the starts of all replicas. Lives where no replica's death reaches it."""

    def __init__(self, max_deaths: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_deaths = max_deaths
        self._clock = clock
        self._units: dict[str, UnitHistory] = {}
        self._starts: dict[str, _Starts] = {}
        self._is_up = False
        self._fatal_error: RerankerBatchError | None = None
        self._deaths = 0
        self._reuse_check: ReuseCheck | None = None
        self._heard_at = clock()

    def begin(self, unit_id: str, replica: str) -> ScoringPlan:
        """An attempt begins; says how to score the unit.

        Raises:
            ReplicaError: The unit, or the run as a whole, has had its share of attempts.
        """
        history = self._units.setdefault(unit_id, UnitHistory())
        self._deaths += history.is_running
        try:
            plan = history.begin()
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
        history.replica = replica
        self._hear(history)
        return plan

    def announce(self, unit_id: str, pairs: tuple[int, ...]) -> None:
        """These pairs are scored next, and nothing else."""
        self._units[unit_id].in_flight = pairs
        self._hear(self._units[unit_id])

    def report(self, unit_id: str, scored: int) -> None:
        """So many pairs of the unit have been scored."""
        self._units[unit_id].scored = scored
        self._hear(self._units[unit_id])

    def fail(self, unit_id: str, error: str) -> None:
        """The process will die of this error."""
        self._units[unit_id].error = error

    def end(self, unit_id: str) -> None:
        self._units[unit_id].is_running = False
        self._hear()

    def start(self, replica: str, node: str) -> None:
        """A process of a replica begins to load its model.

        Raises:
            ReplicaError: It has tried too often.
        """
        starts = self._starts.setdefault(replica, _Starts())
        starts.add(node)
        if starts.of_node > MAX_STARTS:
            why = starts.error or "its process died, perhaps because it ran out of memory"
            raise self.give_up(ReplicaError(f"A replica could not start in {MAX_STARTS} attempts: {why}"))
        if starts.lost > _MAX_LOST_STARTS:
            raise self.give_up(ReplicaError(f"A replica lost its node {starts.lost} times while it loaded its model."))
        self._hear()

    def fail_start(self, replica: str, error: str) -> None:
        self._starts[replica].error = error

    def started(self, replica: str) -> None:
        self._starts.pop(replica, None)
        self._is_up = True
        self._hear()

    def heard(self) -> None:
        """Something moved that no replica has told of: a part was published."""
        self._hear()

    def give_up(self, error: RerankerBatchError) -> RerankerBatchError:
        """Why the run has failed; the first reason counts."""
        self._fatal_error = self._fatal_error or error
        return error

    def reuse_checked(self, check: ReuseCheck) -> bool:
        """A replica has scored the sample of reused pairs; says whether pairs are reused. The first check decides."""
        self._reuse_check = check if self._reuse_check is None else self._reuse_check.worst(check)
        self._hear()
        return self._reuse_check.is_within

    def reuse_check(self) -> ReuseCheck | None:
        """The decision with the largest difference that any replica saw, None where none has made the check."""
        return self._reuse_check

    def fatal_error(self) -> RerankerBatchError | None:
        return self._fatal_error

    def running(self) -> list[str]:
        """Units that a replica has begun and not ended."""
        return sorted(unit_id for unit_id, history in self._units.items() if history.is_running)

    def attempts(self) -> dict[str, int]:
        """Attempts of the units that took more than one."""
        return {unit_id: history.attempts for unit_id, history in self._units.items() if history.attempts > 1}

    def pulse(self) -> Pulse:
        now = self._clock()
        running = {unit_id: history for unit_id, history in self._units.items() if history.is_running}
        return Pulse(
            scored=sum(history.scored for history in running.values()),
            silent=tuple((unit_id, item.replica, now - item.heard_at) for unit_id, item in sorted(running.items())),
            idle_s=now - self._heard_at,
            is_starting=not running and (bool(self._starts) or not self._is_up),
            is_loading=bool(self._starts),
        )

    def _hear(self, history: UnitHistory | None = None) -> None:
        self._heard_at = self._clock()
        if history is not None:
            history.heard_at = self._heard_at
