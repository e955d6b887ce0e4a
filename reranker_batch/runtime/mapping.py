"""The same call for many items, as tasks on all nodes of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from reranker_batch.core.mapping import Item, Result, in_threads
from reranker_batch.errors import ReplicaError, described
from reranker_batch.printing import set_up_logging

_ITEMS_A_TASK = 256
_RETRIES = 5
TASK_MEMORY_BYTES = 768 << 20
"""What a task of `tasks_on_ray` may need."""
_AHEAD = 2
"""Tasks a CPU that are handed to Ray before one of them ends."""


def on_ray(call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """See `Mapper`; a task takes some hundred items, in threads. Tasks of a lost node run again on another.

    Tasks that are left when the caller stops run to their end: cancelling one that has just ended makes Ray abort the
    process that asks for it.

    Raises:
        ReplicaError: Ray has lost tasks more often than they are tried again.
    """
    shared = ray.put(call)
    starts = range(0, len(items), _ITEMS_A_TASK)
    tasks = [_call_each.remote(shared, items[start : start + _ITEMS_A_TASK]) for start in starts]
    try:
        for task in tasks:
            yield from ray.get(task)
    except RayError as error:
        raise ReplicaError(f"A task on Ray failed. {described(error)}.") from error


@ray.remote(max_retries=_RETRIES)
def _call_each(call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    set_up_logging()
    return list(in_threads(call, items))


def tasks_on_ray(call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """See `Mapper`; for calls that compute: a task, a CPU and some memory for each item, so many at a time as Ray has.

    Tasks of a lost node run again on another.

    Raises:
        ReplicaError: Ray has lost tasks more often than they are tried again, or a call failed without saying why.
    """
    shared = ray.put(call)
    waiting, at_work = deque(enumerate(items)), dict[Any, int]()
    done: dict[int, Any] = {}
    try:
        for following in range(len(items)):
            while following not in done:
                while waiting and len(at_work) < _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1))):
                    number, item = waiting.popleft()
                    at_work[_call_one.remote(shared, item)] = number
                [task], _ = ray.wait(list(at_work), num_returns=1)
                done[at_work.pop(task)] = ray.get(task)
            yield done.pop(following)
    except RayError as error:
        raise ReplicaError(f"A task on Ray failed. {described(error)}.") from error


@ray.remote(max_retries=_RETRIES, num_cpus=1, memory=TASK_MEMORY_BYTES)
def _call_one(call: Callable[[Any], Any], item: Any) -> Any:
    set_up_logging()
    return call(item)
