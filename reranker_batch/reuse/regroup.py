"""The rows of a memo sorted by the units of tonight, for a table in another order than that of the earlier run.

One pass over the memo: rows fill a buffer of a fixed size, and each full buffer becomes a run, sorted by unit. A unit
then reads one piece of every run. Memory is that of the buffer and its sorted copy, whatever the memo holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from reranker_batch.core.memo import MEMO_DTYPE, KeyArray, MemoRows, query_starts
from reranker_batch.core.ragged import LongArray, positions_of
from reranker_batch.reuse.index import NumberArray, QueryIndex
from reranker_batch.reuse.source import MemoSource
from reranker_batch.storage.output.scratch import Scratch

RUN_BYTES = 64 << 20
MOST_UNITS = 16
"""Units that get the rows of one query. Where more have the same text, the others score its pairs again: copies for
all would grow with the square of the units."""
_UNITS, _RUNS = "units", "runs"


@dataclass(frozen=True)
class Regrouped:
    """Runs in the scratch folder. Travels between processes as a path alone."""

    scratch: Scratch

    def rows_of(self, unit_id: str) -> Iterator[MemoRows]:
        """The unit's piece of every run. Raises CommitError when one cannot be read."""
        number = _units(self.scratch)[unit_id]
        for run, offsets in enumerate(_offsets(self.scratch)):
            start, stop = int(offsets[number]), int(offsets[number + 1])
            if stop > start:
                size = MEMO_DTYPE.itemsize
                piece = self.scratch.read_at(_run_name(run), start * size, (stop - start) * size)
                yield np.frombuffer(piece, MEMO_DTYPE)


def regroup(
    source: MemoSource,
    unit_ids: Sequence[str],
    queries: Iterable[KeyArray],
    scratch: Scratch,
    *,
    run_bytes: int = RUN_BYTES,
) -> Regrouped:
    """Sort the source's rows by unit; `queries[i]` holds the first halves of the queries of unit `i`, each once.

    Raises:
        CommitError: A part is not the one on record, or the scratch folder cannot be written.
    """
    routes = QueryIndex.of(queries)
    runs = _Runs(scratch, len(unit_ids), max(1, run_bytes // MEMO_DTYPE.itemsize))
    for number in range(len(source.parts)):
        for rows, units in _routed(source.read(number), routes, runs.capacity):
            runs.add(rows, units)
    runs.flush()
    scratch.write(_UNITS, ["\n".join(unit_ids).encode()])
    scratch.write(_RUNS, [np.stack(runs.offsets).tobytes() if runs.offsets else b""])
    return Regrouped(scratch)


def _routed(rows: MemoRows, routes: QueryIndex, most_rows: int) -> Iterator[tuple[MemoRows, NumberArray]]:
    """Each row once for each unit that has its query, in pieces."""
    begins = query_starts(rows)
    lengths = np.diff(begins, append=len(rows))
    starts, counts = routes.ranges(rows["q0"][begins])
    counts = np.minimum(counts, MOST_UNITS)
    units = routes.numbers[positions_of(starts, counts)]
    repeated = np.repeat(lengths, counts)
    taken = positions_of(np.repeat(begins, counts), repeated)
    to = np.repeat(units, repeated)
    for start in range(0, len(taken), most_rows):
        yield rows[taken[start : start + most_rows]], to[start : start + most_rows]


class _Runs:
    def __init__(self, scratch: Scratch, num_units: int, capacity: int) -> None:
        self.capacity = capacity
        self.offsets: list[LongArray] = []
        self._scratch = scratch
        self._num_units = num_units
        self._rows = np.zeros(capacity, MEMO_DTYPE)
        self._units = np.zeros(capacity, np.uint32)
        self._used = 0

    def add(self, rows: MemoRows, units: NumberArray) -> None:
        """At most `capacity` rows."""
        if self._used + len(rows) > self.capacity:
            self.flush()
        place = slice(self._used, self._used + len(rows))
        self._rows[place], self._units[place] = rows, units
        self._used += len(rows)

    def flush(self) -> None:
        if not self._used:
            return
        units = self._units[: self._used]
        order = np.argsort(units, kind="stable")
        self._scratch.write(_run_name(len(self.offsets)), [self._rows[order].data.cast("B")])
        self.offsets.append(np.searchsorted(units[order], np.arange(self._num_units + 1)).astype(np.int64))
        self._used = 0


def _run_name(run: int) -> str:
    return f"run-{run:05d}"


@lru_cache(maxsize=2)
def _units(scratch: Scratch) -> dict[str, int]:
    names = scratch.content(_UNITS).to_pybytes().decode().split("\n")
    return {unit_id: number for number, unit_id in enumerate(names)}


@lru_cache(maxsize=2)
def _offsets(scratch: Scratch) -> list[LongArray]:
    content: pa.Buffer = scratch.content(_RUNS)
    return list(np.frombuffer(content, np.int64).reshape(-1, len(_units(scratch)) + 1))
