"""The same call for many items, in processes of this machine."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from reranker_batch.core.mapping import Item, Mapper, Result
from reranker_batch.errors import ReplicaError, RerankerBatchError
from reranker_batch.job.child import Child

MODULE = "reranker_batch.job.call_child"
ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve a gigabyte of addresses for each process
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # so that large buffers go back to the system
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_PROCESS_BYTES = 768 << 20
"""What a process may need."""
_GONE = (BrokenPipeError, ConnectionResetError, EOFError)


def in_this_process(call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """See `Mapper`; one item after the other, for work that is not worth a process."""
    yield from map(call, items)


@contextmanager
def processes(count: int | None = None) -> Iterator[Mapper]:
    """A mapper whose calls are made by child processes: one a core, as far as the free memory allows.

    Calls and items are pickled, so that they are found by the name of their module in any process. A child works on
    one item at a time, stays for the next call, and ends with this process, however that ends.
    """
    pool = _Pool(count or min(len(os.sched_getaffinity(0)), max(1, _free_bytes() // _PROCESS_BYTES)))
    try:
        yield pool
    finally:
        pool.close()


class _Pool:
    """See `Mapper`. Errors of ours come back as they are; those of a library as `ReplicaError`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._children: list[Child] = []

    def __call__(self, call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        """Raises ReplicaError when a child dies."""
        waiting = deque(enumerate(items))
        while len(self._children) < min(self._count, len(items)):
            self._children.append(_started())
        at_work: dict[Child, int] = {}
        done: dict[int, Any] = {}
        following = 0
        try:
            for child in self._children:
                self._hand_out(child, call, waiting, at_work)
            while following < len(items):
                while following not in done:
                    child = _next_ready(at_work)
                    done[at_work.pop(child)] = _received(child)
                    self._hand_out(child, call, waiting, at_work)
                yield done.pop(following)
                following += 1
        finally:
            if at_work:  # the caller stopped, or a call failed: what children send now belongs to no call
                self.close()

    def close(self) -> None:
        """End all children, whatever they are at."""
        children, self._children = self._children, []
        for child in children:
            child.close()

    def _hand_out(
        self, child: Child, call: Callable[[Any], Any], waiting: deque[tuple[int, Any]], at_work: dict[Child, int]
    ) -> None:
        if not waiting:
            return
        number, item = waiting.popleft()
        at_work[child] = number
        try:
            child.send((call, item))
        except _GONE:
            raise _died(child) from None


def _started() -> Child:
    child = Child.start(module=MODULE, environment=ENVIRONMENT)
    child.send(logging.getLogger("reranker_batch").getEffectiveLevel())
    return child


def _next_ready(at_work: dict[Child, int]) -> Child:
    by_connection = {child.connection: child for child in at_work}
    return by_connection[wait(list(by_connection))[0]]


def _received(child: Child) -> Any:
    try:
        result, error = child.receive()
    except _GONE:
        raise _died(child) from None
    if isinstance(error, RerankerBatchError):
        raise error
    return result


def _died(child: Child) -> ReplicaError:
    child.process.wait()
    return ReplicaError(
        f"A process of this machine ended in the middle of its work ({_how(child.process.returncode)}). If memory is "
        "short, free some. The same command goes on from here."
    )


def _free_bytes() -> int:
    """What the system can give without swapping; all of it where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
