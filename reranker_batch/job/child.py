"""A child process and the way to talk to it. Imports nothing heavy: a child can start before its parent has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

EARLY = "early"
REPLICA = "reranker_batch.job.replica_child"
"""The module that a child runs."""
_PARENT_EVERY_S = 1.0
_NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class Child:
    """Talks through a socket pair that no other process can reach.

    `send` and `receive` raise EOFError, BrokenPipeError or ConnectionResetError when the child is gone.
    """

    process: subprocess.Popen[bytes]
    connection: Any

    @classmethod
    def start(cls, *arguments: str, module: str = REPLICA, environment: Mapping[str, str] = _NONE) -> Child:
        """In a process group of its own: Ctrl-C is for the parent, which ends the child."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                process_group=0,
            )
        return cls(process, Connection(ours.detach()))

    def send(self, message: object) -> None:
        self.connection.send(message)

    def receive(self) -> Any:
        return self.connection.recv()

    def poll(self, timeout_s: float) -> bool:
        return bool(self.connection.poll(timeout_s))

    def close(self) -> None:
        """End the process, whatever it is at."""
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Standby:
    """A child that was started early, if any, until somebody takes it."""

    def __init__(self, child: Child | None = None) -> None:
        self._child = child

    def take(self) -> Child | None:
        child, self._child = self._child, None
        return child

    def close(self) -> None:
        """End the child that nobody took."""
        if (child := self.take()) is not None:
            child.close()


@contextmanager
def standby(*, is_wanted: bool) -> Iterator[Standby]:
    """Start a child that imports what a model needs while its parent reads the job."""
    spare = Standby(Child.start(EARLY) if is_wanted else None)
    try:
        yield spare
    finally:
        spare.close()


def end_with(parent: int) -> None:
    """A child outlives no parent, also one that was killed while the child starts or is in a long computation."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
