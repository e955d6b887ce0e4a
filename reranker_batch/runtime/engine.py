"""The engine on Ray: units through the three steps on Ray Data, replicas as actors."""

from __future__ import annotations

import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
import ray.data
from ray.util.annotations import RayDeprecationWarning

from reranker_batch.config import JobConfig, RuntimeConfig
from reranker_batch.core.attempts import Pulse, max_deaths
from reranker_batch.core.backend import Device
from reranker_batch.core.mapping import Item, Result
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.core.unit_entry import UnitEntry
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import ReplicaError
from reranker_batch.job.engine import RESUME, WATCH_EVERY_S, Replicas, standstill
from reranker_batch.job.interrupts import terminate_as_interrupt
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.runtime import blocks, steps
from reranker_batch.runtime.failures import explain
from reranker_batch.runtime.mapping import on_ray
from reranker_batch.runtime.placement import Placement
from reranker_batch.runtime.session import lost_process, ray_session
from reranker_batch.runtime.tracker import TrackerClient, start_tracker
from reranker_batch.runtime.waiting import place_on_cluster

_TASK_RETRIES = 5
"""Of one unit's prepare or finish task whose process was lost."""
_UNANSWERED = 3
"""Questions in a row that Ray may leave without an answer, ten seconds each."""
_REFUSED = 2
"""Connections in a row that Ray may refuse, two seconds apart."""
_END_S = 10.0


@contextmanager
def ray_engine(config: JobConfig, devices: Sequence[Device]) -> Iterator[RayEngine]:
    """A Ray to run on, and the replicas that fit there.

    Raises:
        ConfigError: No Ray answers, or what is asked for cannot be placed.
    """
    with ray_session(config.runtime.ray_address):
        with terminate_as_interrupt():  # Ray has put a handler of its own in place, and the wait may be long
            placement = place_on_cluster(config.runtime, devices)
        yield RayEngine(config, placement)


class RayEngine:
    """See `Engine`. Ray starts processes, moves units and makes up for lost nodes."""

    name = "ray"

    def __init__(self, config: JobConfig, placement: Placement) -> None:
        self._runtime = config.runtime
        self._placement = placement
        self._attempts: Mapping[str, int] = {}
        self._reuse_check: ReuseCheck | None = None
        self.replicas = Replicas(placement.device, placement.max_replicas, placement.threads)

    def process(
        self, units: Sequence[WorkUnit], spec: WorkerSpec, on_pulse: Callable[[Pulse], None]
    ) -> Generator[UnitEntry, None, None]:
        """See `Engine`."""
        tracker = start_tracker(max_deaths=max_deaths(len(units)))
        _configure_data()
        rows = _steps(units, spec, self._placement, tracker).iter_rows()
        reader, watch = _Reader(rows), _Watch(tracker, self._runtime, on_pulse)
        failure: BaseException | None = None
        try:
            while (entry := reader.next(watch)) is not None:
                tracker.heard()
                yield entry
        except GeneratorExit:
            raise
        except BaseException as error:
            failure = explain(error, tracker)
        finally:
            if lost_process() is None:
                self._attempts, self._reuse_check = tracker.attempts(), tracker.reuse_check()
                _end(tracker)
                reader.join(_END_S)
        if failure is not None:
            raise failure  # not where Ray's error is at hand: its traceback keeps hold of replicas and their devices

    def map(self, call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        """See `Engine`."""
        return on_ray(call, items)

    def reuse_check(self) -> ReuseCheck | None:
        """See `Engine`."""
        return self._reuse_check

    def attempts(self) -> Mapping[str, int]:
        """See `Engine`."""
        return self._attempts


class _Reader:
    """Iterates the dataset in a thread of its own, so that the driver can look after the run meanwhile."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._results: queue.SimpleQueue[UnitEntry | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, args=(rows,), name="ray-data", daemon=True)
        self._thread.start()

    def next(self, watch: _Watch) -> UnitEntry | None:
        """The next entry, None at the end; raises what the dataset raised."""
        while True:
            watch.look()
            try:
                result = self._results.get(timeout=WATCH_EVERY_S)
            except queue.Empty:
                continue
            if isinstance(result, BaseException):
                raise result
            return result

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _read(self, rows: Iterable[Mapping[str, Any]]) -> None:
        try:
            for row in rows:
                self._results.put(UnitEntry.from_json(row["entry"]))
            self._results.put(None)
        except BaseException as error:
            self._results.put(error)


class _Watch:
    """Asks the tracker every few seconds whether the run moves."""

    def __init__(self, tracker: TrackerClient, runtime: RuntimeConfig, on_pulse: Callable[[Pulse], None]) -> None:
        self._tracker = tracker
        self._runtime = runtime
        self._on_pulse = on_pulse
        self._looked_at = time.monotonic()
        self._unanswered = 0
        self._refused = 0

    def look(self) -> None:
        """Raises StalledError when the run stands still, ReplicaError when Ray does not answer."""
        if time.monotonic() - self._looked_at < WATCH_EVERY_S:
            return
        self._require_ray()
        pulse = self._tracker.pulse()
        self._looked_at = time.monotonic()
        self._unanswered = self._unanswered + 1 if pulse is None else 0
        if self._unanswered == _UNANSWERED:
            raise ReplicaError(
                f"Ray does not answer on the driver's node: its raylet or its head is gone, or starved. {RESUME}"
            )
        if pulse is None:
            return
        self._on_pulse(pulse)
        error = standstill(
            pulse,
            no_progress_timeout_s=self._runtime.no_progress_timeout_s,
            start_timeout_s=self._runtime.start_timeout_s,
            is_alive=_is_alive,
        )
        if error is not None:
            raise error

    def _require_ray(self) -> None:
        lost = lost_process()
        self._refused = 0 if lost is None else self._refused + 1
        if self._refused == _REFUSED:
            raise ReplicaError(f"Ray is gone: {lost} takes no connection any more. {RESUME}")


def _is_alive(actor_id: str) -> bool:
    """Whether Ray has a process for a replica; one whose node is lost has none until there is room elsewhere."""
    try:
        return bool(ray._private.state.actors(actor_id)["State"] == "ALIVE")
    except Exception:  # a private function, and only the better of two ways to tell
        return True


def _end(tracker: TrackerClient) -> None:
    """The replicas, also those that stand still, so that their devices are free for whoever comes next; then the
    tracker. Each has a handle of the other, so that Ray would keep both.
    """
    for handle in [*tracker.handles(), tracker.actor]:
        with suppress(Exception):
            ray.kill(handle, no_restart=True)


def _steps(units: Sequence[WorkUnit], spec: WorkerSpec, placement: Placement, tracker: TrackerClient) -> Any:
    # One row is a whole block, a unit; with GPUs Ray Data does not take None for that.
    as_is: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    task: dict[str, Any] = {"fn_kwargs": {"spec": spec}, "num_cpus": placement.step_cpus, "max_retries": _TASK_RETRIES}
    if not placement.step_cpus:
        task["compute"] = ray.data.TaskPoolStrategy(size=placement.max_replicas)
    dataset: Any = ray.data.from_items([blocks.unit_block(unit) for unit in units], override_num_blocks=len(units))
    with warnings.catch_warnings():
        # Restarts without end are Ray Data's default, and it has no named parameters yet to bound them.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        prepared = dataset.map_batches(steps.prepare, **task, **as_is)
        if spec.max_replicas == 0:
            return prepared.map_batches(steps.finish_known, **task, **as_is)
        replicas = _replicas(len(units), spec, placement, tracker)
        scored = prepared.map_batches(steps.ReplicaActor, **replicas, **as_is)
        return scored.map_batches(steps.finish, **task, **as_is)


def _replicas(num_units: int, spec: WorkerSpec, placement: Placement, tracker: TrackerClient) -> dict[str, Any]:
    """A pool of actors: as many as are of use, at least those that `runtime.min_replicas` asks for if all are."""
    most = placement.max_replicas if spec.max_replicas is None else min(spec.max_replicas, placement.max_replicas)
    least = min(placement.min_replicas, most)
    deaths = 2 * max_deaths(num_units)  # the tracker ends a run earlier and says why; this is for what it cannot see
    return {
        "fn_constructor_kwargs": {"spec": spec, "tracker": tracker},
        "compute": ray.data.ActorPoolStrategy(
            min_size=least, max_size=max(least, min(most, num_units)), max_tasks_in_flight_per_actor=2
        ),
        "num_cpus": placement.num_cpus,
        "num_gpus": placement.num_gpus,
        "max_restarts": deaths,
        "max_task_retries": deaths,
    }


def _configure_data() -> None:
    """A unit is never split, never dropped, and whether a run stands still is for `_Watch` to say."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    # Its tracebacks are for who looks for a mistake in this program; `explain` words every error for all others.
    is_wanted = logging.getLogger("reranker_batch").isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.data").setLevel(logging.WARNING if is_wanted else logging.CRITICAL)
