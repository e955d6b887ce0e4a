"""Lists of token ids of different lengths in one flat array."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """`values[offsets[i]:offsets[i + 1]]` is list `i`.

    `values` is int32 of shape [total], `offsets` int64 of shape [lists + 1]; both may be read-only views.
    """

    values: IntArray
    offsets: LongArray

    @classmethod
    def from_lists(cls, lists: Iterable[Sequence[int] | npt.NDArray[Any]]) -> Ragged:
        """Copy python lists or arrays, in order."""
        arrays = [np.asarray(ids, dtype=np.int32) for ids in lists]
        lengths = np.fromiter((len(ids) for ids in arrays), dtype=np.int64, count=len(arrays))
        values = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32)
        return cls(values, offsets_of(lengths))

    @classmethod
    def from_arrow(cls, array: pa.LargeListArray) -> Ragged:
        """View a `large_list<int32>` without nulls; nothing is copied."""
        return cls(array.values.to_numpy(), array.offsets.to_numpy())

    def to_arrow(self) -> pa.LargeListArray:
        """View as `large_list<int32>`; nothing is copied."""
        return pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.values))

    @property
    def lengths(self) -> LongArray:
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[IntArray]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> IntArray:
        return self.values[self.offsets[position] : self.offsets[position + 1]]

    def head(self, lengths: LongArray) -> Ragged:
        """Keep the first `lengths[i]` values of list `i`; `lengths` never exceeds the present ones."""
        source = positions_of(self.offsets[:-1], lengths)
        return Ragged(self.values[source], offsets_of(lengths))

    def take(self, positions: LongArray) -> Ragged:
        """Copy the lists at `positions`, in that order."""
        lengths = self.lengths[positions]
        return Ragged(self.values[positions_of(self.offsets[positions], lengths)], offsets_of(lengths))

    def distinct(self) -> tuple[LongArray, LongArray]:
        """Positions of lists that differ, and for every list its place among those."""
        content = pa.py_buffer(np.ascontiguousarray(self.values))
        bounds = pa.py_buffer(self.offsets * self.values.itemsize)
        lists = pa.Array.from_buffers(pa.large_binary(), len(self), [None, bounds, content])
        place = lists.dictionary_encode().indices.to_numpy().astype(np.int64)
        _, firsts = np.unique(place, return_index=True)
        return firsts, place


def offsets_of(lengths: LongArray) -> LongArray:
    """Running sum with a leading zero."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def runs_of(numbers: LongArray) -> tuple[LongArray, LongArray]:
    """Where each run of equal neighbours begins, and how long it is; no number is negative."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return starts, np.diff(starts, append=len(numbers))


def positions_of(starts: LongArray, lengths: LongArray) -> LongArray:
    """All of `range(starts[i], starts[i] + lengths[i])`, one after the other, without a python loop."""
    shift = np.repeat(starts - offsets_of(lengths)[:-1], lengths)
    return shift + np.arange(len(shift), dtype=np.int64)
