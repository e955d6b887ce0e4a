"""The ledger of attempts as an actor: it outlives every replica, and ends with the driver."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reranker_batch.core.isolation import Approach, Ledger
from reranker_batch.errors import RerankerBatchError

MAX_STARTS = 3
"""Of one replica in a row, before the run is given up."""
_ANSWER_S = 10.0


def start_ledger(*, max_deaths: int) -> LedgerClient:
    """A ledger beside the driver, so that only the loss of the driver's own node loses it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Ledger)
    return LedgerClient(actor.options(num_cpus=0, scheduling_strategy=here).remote(max_deaths, MAX_STARTS))


def replica_name() -> str:
    """The same in every process that Ray starts for one replica."""
    return str(ray.get_runtime_context().get_actor_id())


class LedgerClient:
    """Calls the ledger and waits for it to have heard, but for those that only close what is over."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin(self, unit_id: str) -> Approach:
        approach: Approach = ray.get(self._actor.begin.remote(unit_id))
        return approach

    def take(self, unit_id: str, pairs: tuple[int, ...]) -> None:
        ray.get(self._actor.take.remote(unit_id, pairs))

    def fail(self, unit_id: str, error: str) -> None:
        ray.get(self._actor.fail.remote(unit_id, error))

    def end(self, unit_id: str) -> None:
        self._actor.end.remote(unit_id)

    def start(self, replica: str) -> None:
        ray.get(self._actor.start.remote(replica))

    def fail_start(self, replica: str, error: str) -> None:
        ray.get(self._actor.fail_start.remote(replica, error))

    def started(self, replica: str) -> None:
        self._actor.started.remote(replica)

    def give_up(self, error: RerankerBatchError) -> None:
        ray.get(self._actor.give_up.remote(error))

    def verdict(self) -> RerankerBatchError | None:
        found: RerankerBatchError | None = self._ask(self._actor.verdict.remote(), None)
        return found

    def running(self) -> list[str]:
        units: list[str] = self._ask(self._actor.running.remote(), [])
        return units

    def attempts(self) -> dict[str, int]:
        attempts: dict[str, int] = self._ask(self._actor.attempts.remote(), {})
        return attempts

    def _ask(self, answer: Any, otherwise: Any) -> Any:
        """For the driver, which asks when something has gone wrong already: no answer must not be one thing more."""
        try:
            return ray.get(answer, timeout=_ANSWER_S)
        except RayError:
            return otherwise
