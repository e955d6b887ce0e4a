"""Which numbered places have which query: 12 bytes for each query of a place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reranker_batch.core.memo import KeyArray
from reranker_batch.core.ragged import LongArray, positions_of
from reranker_batch.storage.output.scratch import Scratch

NumberArray = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class QueryIndex:
    """First halves of the hashes of queries, ascending, and the place that has each; a query may have many places."""

    keys: KeyArray
    numbers: NumberArray

    @classmethod
    def of(cls, places: Iterable[KeyArray]) -> QueryIndex:
        """`places[i]` holds the queries of place `i`, each once."""
        keys, lengths = [], []
        for queries in places:
            keys.append(queries)
            lengths.append(len(queries))
        flat = np.concatenate(keys) if keys else np.empty(0, dtype=np.uint64)
        numbers = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)
        order = np.argsort(flat, kind="stable")  # places of a query ascend
        return cls(flat[order], numbers[order])

    def save(self, scratch: Scratch, file: str) -> None:
        """Raises CommitError when it cannot be written."""
        scratch.write(file, [self.keys.tobytes(), self.numbers.tobytes()])

    @classmethod
    def load(cls, scratch: Scratch, file: str) -> QueryIndex:
        """Mapped, not read, where the file is on this machine. Raises CommitError when it cannot be read."""
        content = scratch.content(file)
        count = content.size // 12
        return cls(np.frombuffer(content, np.uint64, count), np.frombuffer(content, np.uint32, count, offset=8 * count))

    def ranges(self, queries: KeyArray) -> tuple[LongArray, LongArray]:
        """For each query where its entries begin, and how many there are."""
        starts = np.searchsorted(self.keys, queries, side="left")
        return starts, np.searchsorted(self.keys, queries, side="right") - starts

    def places_of(self, queries: KeyArray, *, near: int, most: int) -> tuple[LongArray, LongArray]:
        """Places of distinct queries, and how many queries each has, the best first.

        A query with more than `most` places, such as an empty text, counts only for those nearest to place `near`:
        else a text that stands everywhere would lead everywhere.
        """
        starts, counts = self.ranges(queries)
        starts, counts = starts.copy(), counts.copy()
        for at in np.flatnonzero(counts > most):
            own = self.numbers[starts[at] : starts[at] + counts[at]]
            first = np.clip(np.searchsorted(own, near) - most // 2, 0, counts[at] - most)
            starts[at], counts[at] = starts[at] + first, most
        numbers, times = np.unique(self.numbers[positions_of(starts, counts)], return_counts=True)
        order = np.argsort(-times, kind="stable")
        return numbers[order].astype(np.int64), times[order]


def spread(times: LongArray) -> int:
    """The fewest places that have nine tenths of what all have; `times` descends."""
    return int(np.searchsorted(np.cumsum(times), 0.9 * times.sum())) + 1 if len(times) else 0
