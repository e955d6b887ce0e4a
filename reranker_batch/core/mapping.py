"""The same call for many items, in threads of this process or wherever an engine computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from reranker_batch.errors import RerankerBatchError

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


@dataclass(frozen=True)
class Caught(Generic[Item, Result]):
    """A call whose errors are results, so that they come back as they are from wherever it was made."""

    call: Callable[[Item], Result]

    def __call__(self, item: Item) -> Result | RerankerBatchError:
        try:
            return self.call(item)
        except RerankerBatchError as error:
            return error


def raised(results: Iterable[Result | RerankerBatchError]) -> Iterator[Result]:
    """The results of a `Caught` call; the first error among them is raised."""
    for result in results:
        if isinstance(result, RerankerBatchError):
            raise result
        yield result
