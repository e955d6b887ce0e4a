"""A replica in a child process: what it dies of costs this process nothing, and it is started again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.core.attempts import AttemptTracker, Pulse
from reranker_batch.errors import RerankerBatchError
from reranker_batch.job.child import Child, Standby
from reranker_batch.job.engine import WATCH_EVERY_S, standstill
from reranker_batch.job.replica_child import FAILED, NAME, NODE, READY, SCORED
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.job.steps import Prepared, Scored


class ReplicaProcess:
    """Starts the child when there is a unit for it, and again after it died, until the tracker gives up.

    The two talk through a socket pair that no other process can reach. The child receives units and sends back logits;
    in between it calls the tracker, which lives in this process.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        config: JobConfig,
        tracker: AttemptTracker,
        on_pulse: Callable[[Pulse], None],
        standby: Standby,
    ) -> None:
        self._spec = spec
        self._runtime = config.runtime
        self._tracker = tracker
        self._on_pulse = on_pulse
        self._standby = standby
        self._child: Child | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        spec: WorkerSpec,
        config: JobConfig,
        tracker: AttemptTracker,
        on_pulse: Callable[[Pulse], None],
        *,
        standby: Standby,
    ) -> Iterator[ReplicaProcess]:
        process = cls(spec, config, tracker, on_pulse, standby)
        try:
            yield process
        finally:
            process.close()

    def __call__(self, prepared: Prepared) -> Scored:
        """Score a unit, in as many children as that takes.

        Raises:
            RerankerBatchError: The model cannot be loaded, too many children died, or one stands still.
        """
        while True:
            try:
                child = self._child or self._start()
                child.send(prepared)
                scored: Scored = self._serve(child, until=SCORED)
                return scored
            except (BrokenPipeError, ConnectionResetError, EOFError):
                self.close()
            if (error := self._tracker.fatal_error()) is not None:
                raise error

    def close(self) -> None:
        """End the child, whatever it is at."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _start(self) -> Child:
        self._tracker.start(NAME, NODE)
        self._child = child = self._standby.take() or Child.start()
        child.send((self._spec, logging.getLogger("reranker_batch").getEffectiveLevel()))
        self._serve(child, until=READY)
        return child

    def _serve(self, child: Child, *, until: str) -> Any:
        """Answer the child's calls of the tracker until it says that it is ready, or has scored a unit."""
        while True:
            while not child.poll(WATCH_EVERY_S):
                self._watch()
            what, value = child.receive()
            if what == until:
                return value
            if what == FAILED:
                raise value
            child.send(self._answer(what, value))
            self._on_pulse(self._tracker.pulse())

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, RerankerBatchError | None]:
        try:
            if name == "begin":
                # Not earlier: a child that dies between its start and a unit has not started.
                self._tracker.started(NAME)
            return getattr(self._tracker, name)(*arguments), None
        except RerankerBatchError as error:
            return None, error

    def _watch(self) -> None:
        pulse = self._tracker.pulse()
        self._on_pulse(pulse)
        error = standstill(
            pulse,
            no_progress_timeout_s=self._runtime.no_progress_timeout_s,
            start_timeout_s=self._runtime.start_timeout_s,
            is_alive=lambda replica: True,
        )
        if error is not None:
            raise error
