"""Where the input is cut into work units."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np

from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.core.units import Span, WorkUnit, unit_id_of
from reranker_batch.storage.input.input_file import InputFile

_MAX_GROUP_SHARE = 2
"""A row group larger than this many units is cut inside."""
_MAX_FILES = 1_024
"""Most files of one unit: each costs an open, and a repeated unit opens all of them again."""


def cut_input(
    files: Sequence[InputFile],
    *,
    unit_pairs: int,
    starts_anew: Collection[int] = (),
    query_starts: Sequence[LongArray] | None = None,
) -> list[WorkUnit]:
    """Cut the input into units of about `unit_pairs`, at the ends of row groups and files if these are close enough.

    A unit may span neighbouring files, but a file of `starts_anew` begins a new unit. Within a row group
    pairs are taken to be spread evenly. `query_starts` are the rows of each file at which a query begins, where a query
    has several rows: a cut is moved on to the next of them. An input without rows is one unit without rows.
    """
    file_starts = offsets_of(np.asarray([file.num_rows for file in files], dtype=np.int64))
    if not file_starts[-1]:
        return [_unit(files, 0, file_starts, 0, 0)]
    rows = offsets_of(np.asarray([rows for file in files for rows in file.row_group_rows], dtype=np.int64))
    pairs = offsets_of(np.asarray([pairs for file in files for pairs in file.row_group_pairs], dtype=np.int64))
    cuts = np.asarray(list(_cuts(files, unit_pairs, starts_anew)), dtype=np.int64)
    if query_starts is not None:
        places = [starts + before for starts, before in zip(query_starts, file_starts[:-1], strict=True)]
        cuts = _moved_to_queries(cuts, np.concatenate([*places, file_starts[-1:]]))
    edges = np.unique(np.concatenate([[0], cuts, file_starts[-1:]]))
    before = np.interp(edges, rows, pairs).astype(np.int64)
    return [
        _unit(files, int(before[at + 1] - before[at]), file_starts, int(start), int(stop))
        for at, (start, stop) in enumerate(pairwise(edges))
    ]


def _unit(files: Sequence[InputFile], num_pairs: int, file_starts: LongArray, start: int, stop: int) -> WorkUnit:
    """The unit of rows `start` to `stop` of the whole input."""
    first = int(np.searchsorted(file_starts[:-1], start, side="right")) - 1 if stop else 0
    last = int(np.searchsorted(file_starts[:-1], stop, side="left")) if stop else 1
    spans = []
    for index in range(first, last):
        file, before = files[index], int(file_starts[index])
        row_start, row_stop = max(0, start - before), min(file.num_rows, stop - before)
        if row_start < row_stop or not stop:
            spans.append(Span(index, file.path, row_start, row_stop, file.identity))
    return WorkUnit(unit_id_of(spans[0].file_index, spans[0].row_start), tuple(spans), num_pairs)


def _cuts(files: Sequence[InputFile], unit_pairs: int, starts_anew: Collection[int]) -> Iterator[int]:
    """Rows of the input at which a unit begins. A unit takes another row group if that brings it closer to the aim."""
    row = gathered = num_files = 0
    for index, file in enumerate(files):
        num_files += int(file.num_rows > 0)
        if index in starts_anew or num_files > _MAX_FILES:
            yield row
            gathered, num_files = 0, 1
        for group_rows, group_pairs in zip(file.row_group_rows, file.row_group_pairs, strict=True):
            is_split = group_pairs > _MAX_GROUP_SHARE * unit_pairs
            is_far = abs(gathered - unit_pairs) <= abs(gathered + group_pairs - unit_pairs)
            if gathered and group_pairs and (is_split or is_far):
                yield row
                gathered, num_files = 0, 1
            if is_split:
                num_pieces = min(group_rows, round(group_pairs / unit_pairs))
                yield from (row + group_rows * piece // num_pieces for piece in range(1, num_pieces + 1))
            else:
                gathered += group_pairs
            row += group_rows


def _moved_to_queries(cuts: LongArray, starts: LongArray) -> LongArray:
    """Each cut moved on to the next of `starts`, which end with the end of the input."""
    return starts[np.searchsorted(starts, cuts)]
