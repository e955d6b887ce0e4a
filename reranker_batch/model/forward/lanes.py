"""Micro-batches of a CPU model computed side by side, each in a lane of its own.

Threads that share one operator wait for each other at its end, and for Python before the next one: when another process
takes the core of one thread for a moment, all of them stand still. Lanes share nothing but the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.ragged import LongArray

_MOST = 8
"""With more lanes, they would wait for Python, which serves one at a time."""
_PIECES = 4
"""Parts that each of the last micro-batches is cut into, so that all lanes end at about the same time."""
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Lanes:
    """`count` lanes with `threads` threads of torch each; a single lane is the caller's own thread."""

    def __init__(self, count: int = 1, threads: int = 1) -> None:
        self.count = count
        self._pool = _start(count, threads) if count > 1 else None

    def map(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        """Results of `function` for the items, in their order; the first error is raised."""
        return map(function, items) if self._pool is None else self._pool.map(function, items)

    def even(self, micro_batches: Sequence[LongArray]) -> list[LongArray]:
        """The same micro-batches with the last `count` of them cut into pieces, so that lanes end together."""
        if self.count == 1:
            return list(micro_batches)
        whole, last = micro_batches[: -self.count], micro_batches[-self.count :]
        pieces = [piece for rows in last for piece in np.array_split(rows, min(_PIECES, len(rows)))]
        return [*whole, *pieces]


def _start(count: int, threads: int) -> ThreadPoolExecutor:
    """A pool whose threads are all running and have their number of torch threads.

    Setting it in a thread also changes torch's default for later threads of the process, so that is set back here.
    """
    pool = ThreadPoolExecutor(count, "micro-batches", initializer=_use_threads, initargs=(threads,))
    default = torch.get_num_threads()
    all_run = Barrier(count + 1)
    for _ in range(count):
        pool.submit(all_run.wait)
    all_run.wait()
    torch.set_num_threads(default)
    return pool


def _use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.get_num_threads()  # from now on this thread no longer follows the default


def lanes_for(model: PreTrainedModel, device: torch.device) -> Lanes:
    """A lane per thread that torch may use here, up to a maximum; a single one if passes change the model."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or not _is_stateless(model):
        return Lanes()
    count = min(threads, _MOST)
    return Lanes(count, threads // count)


def _is_stateless(model: PreTrainedModel) -> bool:
    """Whether forward passes change nothing in the model.

    Code from a repository may do so, and so do rotary embeddings of the kinds that stretch with the longest input.
    """
    kinds: list[Any] = [getattr(module, "rope_type", "") for module in model.modules()]
    is_stretching = any(name in str(kind) for kind in kinds for name in ("dynamic", "longrope"))
    return type(model).__module__.startswith("transformers.") and not is_stretching
