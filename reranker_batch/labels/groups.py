"""Reductions and ranks over the candidates of each query, on whole arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray


def count_of(query: LongArray, where: BoolArray, num_queries: int) -> LongArray:
    """How many candidates of each query are in `where`."""
    return np.bincount(query[where], minlength=num_queries).astype(np.int64)


def lowest_of(query: LongArray, values: FloatArray, where: BoolArray, num_queries: int) -> FloatArray:
    """The lowest value in `where` of each query, infinity where it has none."""
    lowest = np.full(num_queries, np.inf, values.dtype)
    np.minimum.at(lowest, query[where], values[where])
    return lowest


def highest_of(query: LongArray, values: FloatArray, where: BoolArray, num_queries: int) -> FloatArray:
    """The highest value in `where` of each query, minus infinity where it has none."""
    return -lowest_of(query, -values, where, num_queries)


def ranks_of(query: LongArray, keys: npt.NDArray[Any], where: BoolArray) -> LongArray:
    """The place from 0 of each candidate in `where` among those of its query, lowest key first, -1 for the others.

    Equal keys keep their order.
    """
    at = np.flatnonzero(where)
    order = at[np.lexsort((keys[at], query[at]))]
    ranks = np.full(len(query), -1, np.int64)
    if len(order):
        sorted_query = query[order]
        is_first = np.append(True, sorted_query[1:] != sorted_query[:-1])
        starts = np.flatnonzero(is_first)
        ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return ranks


def is_repeated(query: LongArray, texts: LongArray, ranks: LongArray) -> BoolArray:
    """Which of the candidates with a rank have the text of one of their query with a better rank."""
    at = np.flatnonzero(ranks >= 0)
    order = at[np.lexsort((ranks[at], texts[at], query[at]))]
    repeated = np.zeros(len(query), np.bool_)
    same_query = query[order][1:] == query[order][:-1]
    repeated[order[1:]] = same_query & (texts[order][1:] == texts[order][:-1])
    return repeated


def has_text_of(query: LongArray, texts: LongArray, where: BoolArray, others: BoolArray) -> BoolArray:
    """Which candidates in `where` have the text of one in `others` of the same query."""
    num_texts = int(texts.max(initial=0)) + 1
    keys = query * num_texts + texts
    return np.asarray(where & np.isin(keys, keys[others]))
