"""Micro-batches of a model on CPUs side by side.

The threads that share one operator wait for each other at its end, and for Python before the next: when another process
takes one thread's core for a moment, all of them stand still. Streams share nothing but the weights.
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
"""More would wait for Python, which serves one stream at a time."""
_PIECES = 4
"""Parts of each micro-batch of the last wave: streams end within a part of one another."""
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Streams:
    """So many streams with `threads` threads of torch each; a single one is the caller's own thread."""

    def __init__(self, count: int = 1, threads: int = 1) -> None:
        self.count = count
        self._pool = _start(count, threads) if count > 1 else None

    def map(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        """What `function` gives for the items, in their order; an error of one ends it."""
        return map(function, items) if self._pool is None else self._pool.map(function, items)

    def even(self, micro_batches: Sequence[LongArray]) -> list[LongArray]:
        """The same micro-batches with those of the last wave cut into pieces, so that streams end together."""
        if self.count == 1:
            return list(micro_batches)
        whole, last = micro_batches[: -self.count], micro_batches[-self.count :]
        pieces = [piece for rows in last for piece in np.array_split(rows, min(_PIECES, len(rows)))]
        return [*whole, *pieces]


def _start(count: int, threads: int) -> ThreadPoolExecutor:
    """A pool whose threads all run by now. What they set for themselves becomes torch's default for any later thread of
    the process as well, so that it is set back once they have taken it.
    """
    pool = ThreadPoolExecutor(count, "micro-batches", initializer=_keep_to, initargs=(threads,))
    default = torch.get_num_threads()
    all_run = Barrier(count + 1)
    for _ in range(count):
        pool.submit(all_run.wait)
    all_run.wait()
    torch.set_num_threads(default)
    return pool


def _keep_to(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.get_num_threads()  # from now on this thread no longer follows the default


def streams_for(model: PreTrainedModel, device: torch.device) -> Streams:
    """As many as the model's code and the threads that torch may use here allow."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or not _is_stateless(model):
        return Streams()
    count = min(threads, _MOST)
    return Streams(count, threads // count)


def _is_stateless(model: PreTrainedModel) -> bool:
    """Whether passes leave no trace in the model: code from a repository may, and so do rotary embeddings of the kinds
    that stretch with the longest input.
    """
    kinds: list[Any] = [getattr(module, "rope_type", "") for module in model.modules()]
    is_stretching = any(name in str(kind) for kind in kinds for name in ("dynamic", "longrope"))
    return type(model).__module__.startswith("transformers.") and not is_stretching
