"""The tracker of attempts as an actor: it outlives every replica, and ends with the driver."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reranker_batch.core.attempts import AttemptTracker, Pulse
from reranker_batch.core.isolation import ScoringPlan
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.errors import RerankerBatchError

_ANSWER_S = 10.0


class _Tracker(AttemptTracker):
    """Keeps the handles of the replicas too, so that the driver can end them."""

    def __init__(self, max_deaths: int) -> None:
        super().__init__(max_deaths)
        self._handles: dict[str, Any] = {}

    def register(self, replica: str, handle: Any) -> None:
        self._handles[replica] = handle

    def handles(self) -> list[Any]:
        return list(self._handles.values())


def start_tracker(*, max_deaths: int) -> TrackerClient:
    """A tracker on the driver's node, so that only the loss of that node loses it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(_Tracker)
    return TrackerClient(actor.options(num_cpus=0, scheduling_strategy=here).remote(max_deaths))


class TrackerClient:
    """Calls the tracker and waits for it to have heard, except where what is told needs no answer.

    See `ReplicaListener` for what replicas call.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def register(self, replica: str, handle: Any) -> None:
        self.actor.register.remote(replica, handle)

    def start(self, replica: str, node: str) -> None:
        ray.get(self.actor.start.remote(replica, node))

    def fail_start(self, replica: str, error: str) -> None:
        ray.get(self.actor.fail_start.remote(replica, error))

    def started(self, replica: str) -> None:
        self.actor.started.remote(replica)

    def begin(self, unit_id: str, replica: str) -> ScoringPlan:
        plan: ScoringPlan = ray.get(self.actor.begin.remote(unit_id, replica))
        return plan

    def announce(self, unit_id: str, pairs: tuple[int, ...]) -> None:
        ray.get(self.actor.announce.remote(unit_id, pairs))

    def report(self, unit_id: str, scored: int) -> None:
        self.actor.report.remote(unit_id, scored)

    def fail(self, unit_id: str, error: str) -> None:
        ray.get(self.actor.fail.remote(unit_id, error))

    def end(self, unit_id: str) -> None:
        self.actor.end.remote(unit_id)

    def give_up(self, error: RerankerBatchError) -> None:
        ray.get(self.actor.give_up.remote(error))

    def reuse_checked(self, check: ReuseCheck) -> bool:
        is_reused: bool = ray.get(self.actor.reuse_checked.remote(check))
        return is_reused

    def reuse_check(self) -> ReuseCheck | None:
        check: ReuseCheck | None = self._ask(self.actor.reuse_check.remote(), None)
        return check

    def heard(self) -> None:
        self.actor.heard.remote()

    def pulse(self) -> Pulse | None:
        """None where the tracker does not answer."""
        pulse: Pulse | None = self._ask(self.actor.pulse.remote(), None)
        return pulse

    def handles(self) -> list[Any]:
        handles: list[Any] = self._ask(self.actor.handles.remote(), [])
        return handles

    def fatal_error(self) -> RerankerBatchError | None:
        error: RerankerBatchError | None = self._ask(self.actor.fatal_error.remote(), None)
        return error

    def running(self) -> list[str]:
        units: list[str] = self._ask(self.actor.running.remote(), [])
        return units

    def attempts(self) -> dict[str, int]:
        attempts: dict[str, int] = self._ask(self.actor.attempts.remote(), {})
        return attempts

    def _ask(self, answer: Any, otherwise: Any) -> Any:
        """For the driver, which may ask when something has gone wrong already: no answer must not be one thing more."""
        try:
            return ray.get(answer, timeout=_ANSWER_S)
        except RayError:
            return otherwise
