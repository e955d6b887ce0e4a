"""Measures of how far two rankings of a query agree, for many queries at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.core.rank_matches import Matches, RankedSide

DoubleArray = npt.NDArray[np.float64]


def is_changed(matches: Matches, *, depth: int) -> BoolArray:
    """Whether the first `depth` documents of a query, in their order, differ."""
    is_same = (matches.before == matches.after) & (matches.after < depth)
    changed: BoolArray = _per_query(matches, is_same) < _depths(matches, depth)
    return changed


def overlap_at(matches: Matches, *, depth: int) -> DoubleArray:
    """Share of the first `depth` documents that both rankings have; NaN where both are empty.

    It is a share of the longer of the two lists, so that equal short lists have an overlap of 1.
    """
    is_shared = (matches.before < depth) & (matches.after < depth) & matches.is_within
    return _ratio(_per_query(matches, is_shared), _depths(matches, depth))


def rank_biased_overlap(matches: Matches, *, persistence: float = 0.9) -> DoubleArray:
    """Extrapolated rank-biased overlap of each query; NaN where both rankings are empty, 0 where one is.

    Equation 32 of Webber, Moffat and Zobel, "A similarity measure for indefinite rankings" (2010): beyond the shorter
    list its agreement goes on as it was at its end, beyond the longer one that of the two. Agreement is that of
    equation 28, in which tied documents all stand at the first of their ranks.
    """
    before, after = matches.side_before, matches.side_after
    longer, shorter = np.maximum(before.lengths, after.lengths), np.minimum(before.lengths, after.lengths)
    offsets = offsets_of(longer)
    query = np.repeat(np.arange(len(longer)), longer)
    depth = np.arange(1, len(query) + 1) - offsets[query]
    is_within = matches.is_within
    deepest = np.maximum(matches.rank_before, matches.rank_after)[is_within]
    shared = _running(matches.query[is_within], deepest, offsets)
    sizes = _sizes(before, offsets, depth, query) + _sizes(after, offsets, depth, query)
    has_both = shorter > 0
    at_end = np.zeros(len(longer))
    ends = (offsets[:-1] + shorter - 1)[has_both]
    at_end[has_both] = 2 * shared[ends] / sizes[ends]
    beyond = np.maximum(0, depth - shorter[query])
    agreement = 2 * (shared + beyond * at_end[query]) / sizes
    weights = persistence ** np.arange(longer.max(initial=0) + 1)
    sums = np.bincount(query, agreement * weights[depth], minlength=len(longer))
    last = np.full(len(longer), np.nan)
    last[longer > 0] = agreement[offsets[1:][longer > 0] - 1]
    overlap: DoubleArray = (1 - persistence) / persistence * sums + last * weights[longer]
    return overlap


def kendall_tau_b(matches: Matches) -> DoubleArray:
    """Kendall's tau-b over the documents that both rankings have, ties included.

    NaN where it is undefined: fewer than two such documents, or all of them tied in one ranking.
    """
    order = np.lexsort((matches.rank_after, matches.rank_before, matches.query))
    query, before, after = (values[order] for values in (matches.query, matches.rank_before, matches.rank_after))
    num_queries = matches.num_queries
    pairs = _pairs(np.bincount(query, minlength=num_queries))
    tied_before = _tied_pairs(query, [before], num_queries)
    tied_in_both = _tied_pairs(query, [before, after], num_queries)
    by_after = np.lexsort((after, query))
    tied_after = _tied_pairs(query, [after[by_after]], num_queries)
    discordant = _inversions(query, after, num_queries)
    concordant = pairs - tied_before - tied_after + tied_in_both - discordant
    norm = np.sqrt((pairs - tied_before).astype(np.float64) * (pairs - tied_after))
    return _ratio(concordant - discordant, norm)


def _per_query(matches: Matches, chosen: BoolArray) -> LongArray:
    return np.bincount(matches.query[chosen], minlength=matches.num_queries)


def _depths(matches: Matches, depth: int) -> LongArray:
    return np.minimum(depth, np.maximum(matches.side_before.lengths, matches.side_after.lengths))


def _ratio(values: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> DoubleArray:
    """NaN for what is divided by 0."""
    ratio: DoubleArray = np.divide(values, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    return ratio


def _running(query: LongArray, ranks: LongArray, offsets: LongArray) -> LongArray:
    """How many of `ranks` are at or above each depth of their query; the depths of query `i` begin at `offsets[i]`."""
    counts = np.cumsum(np.bincount(offsets[query] + ranks, minlength=offsets[-1]))
    before = np.concatenate([[0], counts])[offsets[:-1]]
    running: LongArray = counts - np.repeat(before, np.diff(offsets))
    return running


def _sizes(side: RankedSide, offsets: LongArray, depth: LongArray, query: LongArray) -> LongArray:
    """Documents down to each depth; below its end a list goes on without ties."""
    members = np.repeat(np.arange(len(side.lengths)), side.lengths)
    sizes: LongArray = _running(members, side.ranks, offsets) + np.maximum(0, depth - side.lengths[query])
    return sizes


def _pairs(counts: LongArray) -> LongArray:
    return counts * (counts - 1) // 2


def _tied_pairs(query: LongArray, columns: list[LongArray], num_queries: int) -> LongArray:
    """Pairs of a query that are equal in all columns, which are ordered within each query."""
    if not len(query):
        return np.zeros(num_queries, dtype=np.int64)
    is_first = np.ones(len(query), dtype=bool)
    is_first[1:] = np.logical_or.reduce([values[1:] != values[:-1] for values in [query, *columns]])
    starts = np.flatnonzero(is_first)
    sizes = np.diff(np.append(starts, len(query)))
    tied: LongArray = np.bincount(query[starts], _pairs(sizes), minlength=num_queries).astype(np.int64)
    return tied


def _inversions(query: LongArray, values: LongArray, num_queries: int) -> LongArray:
    """Pairs of each query whose first value is greater than their second.

    From the highest bit down: among values that agree in all higher bits, a 1 before a 0 is an inversion; then the
    zeros of each such group move before its ones. That takes as many passes as a rank has bits.
    """
    inversions = np.zeros(num_queries, dtype=np.int64)
    groups = query
    for bit in range(int(values.max(initial=0)).bit_length() - 1, -1, -1):
        is_one = (values >> bit & 1).astype(bool)
        starts = np.searchsorted(groups, groups)
        ones = np.cumsum(is_one) - is_one  # before each value, in all groups
        ones_before = ones - ones[starts]
        zeros = ~is_one
        inversions += np.bincount(query[zeros], ones_before[zeros], minlength=num_queries).astype(np.int64)
        order = np.argsort(groups * 2 + is_one, kind="stable")
        values, groups = values[order], (groups * 2 + is_one)[order]
    return inversions
