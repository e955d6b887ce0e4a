"""Where a file is cut into work units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import FileIdentity, WorkUnit, unit_id_of

_MAX_GROUP_SHARE = 2
"""A row group of more than this many units is cut inside."""


def cut_file(
    file_index: int,
    file: str,
    identity: FileIdentity,
    row_group_rows: Sequence[int],
    row_group_pairs: Sequence[int],
    *,
    unit_pairs: int,
    query_starts: LongArray | None = None,
) -> list[WorkUnit]:
    """Cut a file into units of about `unit_pairs`, at row groups where that comes near enough.

    Within a row group pairs are taken to be spread evenly. `query_starts` are the rows at which a query begins,
    where a query has several rows: a cut is moved on to the next of them, and pairs are rows. A file without
    rows has no unit.
    """
    rows = np.concatenate([[0], np.cumsum(row_group_rows, dtype=np.int64)])
    pairs = np.concatenate([[0], np.cumsum(row_group_pairs, dtype=np.int64)])
    cuts = np.asarray(list(_cuts(row_group_rows, row_group_pairs, unit_pairs)), dtype=np.int64)
    if query_starts is not None:
        cuts = _moved_to_queries(cuts, query_starts, int(rows[-1]))
    edges = np.unique(np.concatenate([[0], cuts, rows[-1:]]))
    before = np.interp(edges, rows, pairs).astype(np.int64)
    return [
        WorkUnit(
            unit_id_of(file_index, int(start)), file, int(start), int(stop), int(before[i + 1] - before[i]), identity
        )
        for i, (start, stop) in enumerate(pairwise(edges))
    ]


def _cuts(rows: Sequence[int], pairs: Sequence[int], unit_pairs: int) -> Iterator[int]:
    """Rows before which to cut. A unit takes one more row group as long as that brings it nearer to the aim."""
    row = gathered = 0
    for group_rows, group_pairs in zip(rows, pairs, strict=True):
        is_split = group_pairs > _MAX_GROUP_SHARE * unit_pairs
        if gathered and (is_split or abs(gathered - unit_pairs) <= abs(gathered + group_pairs - unit_pairs)):
            yield row
            gathered = 0
        if is_split:
            num_pieces = min(group_rows, round(group_pairs / unit_pairs))
            yield from (row + group_rows * piece // num_pieces for piece in range(1, num_pieces + 1))
        else:
            gathered += group_pairs
        row += group_rows


def _moved_to_queries(cuts: LongArray, query_starts: LongArray, num_rows: int) -> LongArray:
    ends = np.append(query_starts, num_rows)
    return ends[np.searchsorted(ends, cuts)]
