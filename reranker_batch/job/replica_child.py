"""The child of a local run: it loads the model, then scores what its parent sends."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from reranker_batch.core.isolation import ScoringPlan
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.errors import RerankerBatchError
from reranker_batch.job.child import EARLY, end_with
from reranker_batch.job.replica import Replica
from reranker_batch.printing import log_to_stderr

NAME, NODE = "local", "this machine"
READY, SCORED, FAILED = "ready", "scored", "failed"
_HEAVY = "reranker_batch.model.checks.start"


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

    def reuse_checked(self, check: ReuseCheck) -> bool:
        is_reused: bool = self._call("reuse_checked", check)
        return is_reused

    def _call(self, name: str, *arguments: Any) -> Any:
        self._connection.send((name, arguments))
        value, error = self._connection.recv()
        if error is not None:
            raise error
        return value


def main(descriptor: str, parent: str, *when: str) -> None:
    """Load the model that the parent names, then score what comes."""
    end_with(int(parent))
    if EARLY in when:
        with suppress(Exception):  # what fails here fails again where the model is loaded, and is told there
            import_module(_HEAVY)
    connection: Any = Connection(int(descriptor))
    spec, level = connection.recv()
    log_to_stderr(level)
    try:
        replica = Replica(spec, _Caller(connection), name=NAME, node=NODE)
        connection.send((READY, None))
        while True:
            connection.send((SCORED, replica(connection.recv())))
    except RerankerBatchError as error:
        connection.send((FAILED, error))


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        main(*sys.argv[1:])
