"""A replica in a child process: what it dies of costs this process nothing, and it is started again."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.core.attempts import AttemptTracker, Pulse
from reranker_batch.core.isolation import ScoringPlan
from reranker_batch.errors import RerankerBatchError
from reranker_batch.job.engine import WATCH_EVERY_S, standstill
from reranker_batch.job.replica import Replica
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.job.steps import Prepared, Scored
from reranker_batch.printing import log_to_stderr

_NAME, _NODE = "local", "this machine"
_READY, _SCORED, _FAILED = "ready", "scored", "failed"
_PARENT_EVERY_S = 1.0


class _DiedError(Exception):
    """The child is gone."""


class ReplicaProcess:
    """Starts the child when there is a unit for it, and again after it died, until the tracker gives up.

    The two talk through a socket pair that no other process can reach. The child receives units and sends back logits;
    in between it calls the tracker, which lives in this process.
    """

    def __init__(
        self, spec: WorkerSpec, config: JobConfig, tracker: AttemptTracker, on_pulse: Callable[[Pulse], None]
    ) -> None:
        self._spec = spec
        self._runtime = config.runtime
        self._tracker = tracker
        self._on_pulse = on_pulse
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Any = None

    @classmethod
    @contextmanager
    def open(
        cls, spec: WorkerSpec, config: JobConfig, tracker: AttemptTracker, on_pulse: Callable[[Pulse], None]
    ) -> Iterator[ReplicaProcess]:
        process = cls(spec, config, tracker, on_pulse)
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
                if self._child is None:
                    self._start()
                    self._serve(until=_READY)
                self._connection.send(prepared)
                scored: Scored = self._serve(until=_SCORED)
                return scored
            except (_DiedError, BrokenPipeError, ConnectionResetError, EOFError):
                self.close()
            if (error := self._tracker.fatal_error()) is not None:
                raise error

    def close(self) -> None:
        """End the child, whatever it is at."""
        if self._child is not None:
            self._connection.close()
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self) -> None:
        self._tracker.start(_NAME, _NODE)
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._connection = Connection(ours.detach())
        self._connection.send((self._spec, logging.getLogger("reranker_batch").getEffectiveLevel()))

    def _serve(self, *, until: str) -> Any:
        """Answer the child's calls of the tracker until it says that it is ready, or has scored a unit."""
        while True:
            while not self._connection.poll(WATCH_EVERY_S):
                self._watch()
            what, value = self._connection.recv()
            if what == until:
                return value
            if what == _FAILED:
                raise value
            self._connection.send(self._answer(what, value))
            self._on_pulse(self._tracker.pulse())

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, RerankerBatchError | None]:
        try:
            if name == "begin":
                self._tracker.started(
                    _NAME
                )  # not earlier: a child that dies between its start and a unit has not started
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


class _Caller:
    """The tracker as the child sees it. See `ReplicaListener`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def start(self, replica: str, node: str) -> None:
        """The parent counted it: a child may die before it can call."""

    def fail_start(self, replica: str, error: str) -> None:
        self._call("fail_start", replica, error)

    def started(self, replica: str) -> None:
        """The parent knows by the first unit."""

    def begin(self, unit_id: str, replica: str) -> ScoringPlan:
        plan: ScoringPlan = self._call("begin", unit_id, replica)
        return plan

    def announce(self, unit_id: str, pairs: tuple[int, ...]) -> None:
        self._call("announce", unit_id, pairs)

    def report(self, unit_id: str, scored: int) -> None:
        self._call("report", unit_id, scored)

    def fail(self, unit_id: str, error: str) -> None:
        self._call("fail", unit_id, error)

    def end(self, unit_id: str) -> None:
        self._call("end", unit_id)

    def give_up(self, error: RerankerBatchError) -> None:
        self._call("give_up", error)

    def _call(self, name: str, *arguments: Any) -> Any:
        self._connection.send((name, arguments))
        value, error = self._connection.recv()
        if error is not None:
            raise error
        return value


def _end_with(parent: int) -> None:
    """A child outlives no parent, also one that was killed while the child is in a long computation."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: int) -> None:
    """The child: load the model, then score what comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the child
    _end_with(os.getppid())
    connection: Any = Connection(descriptor)
    spec, level = connection.recv()
    log_to_stderr(level)
    try:
        replica = Replica(spec, _Caller(connection), name=_NAME, node=_NODE)
        connection.send((_READY, None))
        while True:
            connection.send((_SCORED, replica(connection.recv())))
    except RerankerBatchError as error:
        connection.send((_FAILED, error))


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        # Not the module that `python -m` made of this file, whose classes no other process knows.
        from reranker_batch.job import replica_process

        replica_process.main(int(sys.argv[1]))
