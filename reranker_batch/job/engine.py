"""What runs the units of a job: the seam between the run loop and Ray, or a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from reranker_batch.config import JobConfig
from reranker_batch.core.attempts import Pulse
from reranker_batch.core.backend import Device
from reranker_batch.core.mapping import Item, Result
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.core.unit_entry import UnitEntry
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import StalledError
from reranker_batch.job.spec import WorkerSpec

WATCH_EVERY_S = 2.0
"""How often a run looks whether it still moves, and redraws its progress."""
RESUME = "The same command goes on from the parts that are published."


@dataclass(frozen=True)
class Replicas:
    """What an engine will compute on. `threads` are those of torch in one replica; 0 leaves torch's own choice."""

    device: Device
    count: int
    threads: int


class Engine(Protocol):
    """Takes units through prepare, score and finish. It is opened for one run."""

    @property
    def name(self) -> str:
        """As `runtime.engine` names it, for the manifest."""

    @property
    def replicas(self) -> Replicas:
        """Decided when the engine was opened."""

    def process(
        self, units: Sequence[WorkUnit], spec: WorkerSpec, on_pulse: Callable[[Pulse], None]
    ) -> Generator[UnitEntry, None, None]:
        """Run all units; yields the entry of each part as soon as it is published, in no certain order.

        `on_pulse` is told every few seconds what the units at work have come to, from the thread that iterates.

        Raises:
            RerankerBatchError: The run cannot go on; says which units were at work and why.
        """

    def map(self, call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        """See `Mapper`: wherever the engine computes, without a model. Raises ReplicaError where that fails."""

    def reuse_check(self) -> ReuseCheck | None:
        """What the check of reused pairs came to, where the replicas of the last `process` made one."""

    def attempts(self) -> Mapping[str, int]:
        """Attempts of the units that took more than one."""


OpenEngine = Callable[[JobConfig, Sequence[Device]], AbstractContextManager[Engine]]
"""Opens an engine for a job, on one of these devices. Raises ConfigError where what is asked for cannot be placed."""


def standstill(
    pulse: Pulse, *, no_progress_timeout_s: float, start_timeout_s: float, is_alive: Callable[[str], bool]
) -> StalledError | None:
    """Why a run stands still, if it does.

    A replica that has work must say something every so often; `is_alive` tells whether one that is silent is there at
    all, since the unit of one that is gone waits for another replica. Loading a model has a limit of its own.
    """
    for unit_id, replica, silent_s in pulse.silent:
        if silent_s > no_progress_timeout_s and is_alive(replica):
            return StalledError(
                f"The replica that scores unit {unit_id} has scored nothing for runtime.no_progress_timeout_s="
                f"{no_progress_timeout_s:g} seconds. Look at what it or its node is doing, or raise the timeout if one "
                f"micro-batch takes that long. {RESUME}",
                unit_id=unit_id,
            )
    if pulse.is_starting and pulse.idle_s > start_timeout_s:
        return StalledError(
            f"No replica came up within runtime.start_timeout_s={start_timeout_s:g} seconds: Ray found no room "
            f"for one, or its model takes longer to load. Look at the nodes, or raise the timeout. {RESUME}"
        )
    if not pulse.is_starting and not pulse.silent and pulse.idle_s > no_progress_timeout_s:
        return StalledError(
            f"Nothing moved for runtime.no_progress_timeout_s={no_progress_timeout_s:g} seconds, and no unit is being "
            f"scored: reading the input or writing parts stands still. Look at the stores of both. {RESUME}"
        )
    return None
