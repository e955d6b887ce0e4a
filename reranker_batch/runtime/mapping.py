"""The same call for many items, as tasks on all nodes of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from reranker_batch.core.mapping import Item, Result, in_threads
from reranker_batch.errors import ReplicaError, described
from reranker_batch.printing import set_up_logging

_ITEMS_A_TASK = 256
_RETRIES = 5


def on_ray(call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """See `Mapper`; a task takes some hundred items, in threads. Tasks of a lost node run again on another.

    Raises:
        ReplicaError: Ray has lost tasks more often than they are tried again.
    """
    shared = ray.put(call)
    starts = range(0, len(items), _ITEMS_A_TASK)
    left = deque(_call_each.remote(shared, items[start : start + _ITEMS_A_TASK]) for start in starts)
    try:
        while left:
            results = ray.get(left[0])
            left.popleft()  # a task that is cancelled just after its end makes Ray abort this process
            yield from results
    except RayError as error:
        raise ReplicaError(f"Ray could not read the published parts. {described(error)}.") from error
    finally:
        for task in left:
            with suppress(RayError):
                ray.cancel(task)


@ray.remote(max_retries=_RETRIES)
def _call_each(call: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    set_up_logging()
    return list(in_threads(call, items))
