"""The same call for many items, in threads of this process or wherever an engine computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS = 8
"""Calls wait for a store for most of their time."""


class Mapper(Protocol):
    """Gives the result of `call` for every item, in the order of the items. All of them can be pickled."""

    def __call__(self, call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]: ...


def in_threads(call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
    """See `Mapper`; calls that have not begun are dropped when the caller stops."""
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from threads.map(call, items)
