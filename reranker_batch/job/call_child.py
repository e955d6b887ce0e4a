"""A child that makes the calls which its parent sends, one after the other."""

from __future__ import annotations

import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from reranker_batch.errors import ReplicaError, RerankerBatchError, described
from reranker_batch.job.child import end_with
from reranker_batch.printing import log_to_stderr


def main(descriptor: str, parent: str) -> None:
    """Answer each call with its result or its error."""
    end_with(int(parent))
    connection: Any = Connection(int(descriptor))
    log_to_stderr(connection.recv())
    while True:
        call, item = connection.recv()
        try:
            answer: tuple[Any, RerankerBatchError | None] = call(item), None
        except RerankerBatchError as error:
            answer = None, error
        except Exception as error:
            answer = None, ReplicaError(f"A call in a process of this machine failed: {described(error)}.")
        connection.send(answer)


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        main(*sys.argv[1:])
