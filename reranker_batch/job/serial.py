"""The engine without Ray: units one after the other on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import zip_longest

from reranker_batch.config import JobConfig
from reranker_batch.core.attempts import AttemptTracker, Pulse, max_deaths
from reranker_batch.core.backend import Device
from reranker_batch.core.mapping import Item, Result, in_threads
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.core.unit_entry import UnitEntry
from reranker_batch.core.units import WorkUnit
from reranker_batch.job.child import Standby
from reranker_batch.job.engine import Replicas
from reranker_batch.job.replica import Replica
from reranker_batch.job.replica_process import ReplicaProcess
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.job.steps import Prepared, Scored, finish, prepare, take_over
from reranker_batch.model.source.devices import device_here

Score = Callable[[Prepared], Scored]
OpenReplica = Callable[[WorkerSpec, JobConfig, AttemptTracker, Callable[[Pulse], None]], AbstractContextManager[Score]]


class SerialEngine:
    """Prepares and finishes units in this process; one replica scores them, the next unit is prepared meanwhile."""

    name = "local"

    def __init__(self, config: JobConfig, devices: Sequence[Device], open_replica: OpenReplica) -> None:
        self._config = config
        self._open_replica = open_replica
        self._tracker = AttemptTracker(max_deaths(0))
        self.replicas = Replicas(device_here(devices), 1, len(os.sched_getaffinity(0)))

    def process(
        self, units: Sequence[WorkUnit], spec: WorkerSpec, on_pulse: Callable[[Pulse], None]
    ) -> Generator[UnitEntry, None, None]:
        """See `Engine`; entries come in the order of the units."""
        self._tracker = AttemptTracker(max_deaths(len(units)))
        with self._scoring(spec, on_pulse) as score, ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(prepare, units[0], spec)
            for _, following in zip_longest(units, units[1:]):
                prepared = coming.result()
                if following is not None:
                    coming = ahead.submit(prepare, following, spec)
                yield finish(score(prepared), spec)
                on_pulse(self._tracker.pulse())

    def map(self, call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        """See `Engine`."""
        return in_threads(call, items)

    def _scoring(self, spec: WorkerSpec, on_pulse: Callable[[Pulse], None]) -> AbstractContextManager[Score]:
        if spec.max_replicas == 0:
            return nullcontext(take_over)
        return self._open_replica(spec, self._config, self._tracker, on_pulse)

    def reuse_check(self) -> ReuseCheck | None:
        """See `Engine`."""
        return self._tracker.reuse_check()

    def attempts(self) -> Mapping[str, int]:
        """See `Engine`."""
        return self._tracker.attempts()


@contextmanager
def local_engine(
    config: JobConfig, devices: Sequence[Device], *, standby: Standby | None = None
) -> Iterator[SerialEngine]:
    """The model runs in a child process, which is started again when it dies. The first may be on standby."""
    yield SerialEngine(config, devices, partial(ReplicaProcess.open, standby=standby or Standby()))


@contextmanager
def inline_engine(config: JobConfig, devices: Sequence[Device]) -> Iterator[SerialEngine]:
    """The model runs in this process, so that what kills it ends the run. Nothing has to start."""
    yield SerialEngine(config, devices, open_inline)


@contextmanager
def open_inline(
    spec: WorkerSpec, config: JobConfig, tracker: AttemptTracker, on_pulse: Callable[[Pulse], None]
) -> Iterator[Score]:
    yield Replica(spec, tracker, name="inline", node="", die=lambda: None)
