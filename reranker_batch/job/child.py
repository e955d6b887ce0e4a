"""A child process and the way to talk to it. Imports nothing heavy: a child can start before its parent has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

EARLY = "early"
_MODULE = "reranker_batch.job.replica_child"


@dataclass(frozen=True)
class Child:
    """Talks through a socket pair that no other process can reach.

    `send` and `receive` raise EOFError, BrokenPipeError or ConnectionResetError when the child is gone.
    """

    process: subprocess.Popen[bytes]
    connection: Any

    @classmethod
    def start(cls, *arguments: str) -> Child:
        """In a process group of its own: Ctrl-C is for the parent, which ends the child."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
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
