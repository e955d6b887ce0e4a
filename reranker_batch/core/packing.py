"""Which pairs share a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import PairTooLongError


def pack_micro_batches(pair_tokens: Sequence[int] | LongArray, *, max_batch_tokens: int) -> Iterator[LongArray]:
    """Yield positions of pairs, grouped so that no micro-batch exceeds the token budget, padding included.

    Longest pairs go first, so neighbours differ little in length and a shortage of memory shows in the
    first micro-batch. A micro-batch costs its longest pair times its number of pairs. Every position is
    yielded exactly once; pairs of equal length keep their order. Nothing but the arguments decides.

    Raises:
        PairTooLongError: One pair alone is over the budget. Raised before the first yield.
    """
    order, lengths = _longest_first(pair_tokens, max_batch_tokens)
    return _slices(order, lengths, max_batch_tokens)


def _longest_first(pair_tokens: Sequence[int] | LongArray, max_batch_tokens: int) -> tuple[LongArray, LongArray]:
    lengths = np.asarray(pair_tokens, dtype=np.int64)
    require_budget(lengths, max_batch_tokens)
    return np.argsort(-lengths, kind="stable"), lengths


def require_budget(pair_tokens: LongArray, max_batch_tokens: int) -> None:
    """Refuse pairs of which one alone is over the token budget.

    Raises:
        PairTooLongError: One is; says how long the longest is.
    """
    longest = int(pair_tokens.max(initial=0))
    if longest > max_batch_tokens:
        raise PairTooLongError(
            f"A pair of {longest} tokens is over batching.max_batch_tokens={max_batch_tokens}. "
            "Raise the budget or lower limits.max_pair_tokens."
        )


def _slices(order: LongArray, lengths: LongArray, max_batch_tokens: int) -> Iterator[LongArray]:
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = start + max_batch_tokens // longest
        yield order[start:stop]
        start = stop


def pack_equal_lengths(pair_tokens: Sequence[int] | LongArray, *, max_batch_tokens: int) -> Iterator[LongArray]:
    """As `pack_micro_batches`, with pairs of one length in each micro-batch, so that none is padded.

    Raises:
        PairTooLongError: One pair alone is over the budget. Raised before the first yield.
    """
    order, lengths = _longest_first(pair_tokens, max_batch_tokens)
    groups = np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1)
    return chain.from_iterable(_slices(group, lengths, max_batch_tokens) for group in groups)


def pack_tokens(pair_tokens: Sequence[int] | LongArray, *, max_batch_tokens: int) -> Iterator[LongArray]:
    """As `pack_micro_batches`, for pairs that are computed without padding: a micro-batch costs its tokens.

    Raises:
        PairTooLongError: One pair alone is over the budget. Raised before the first yield.
    """
    order, lengths = _longest_first(pair_tokens, max_batch_tokens)
    return _token_slices(order, np.cumsum(lengths[order]), max_batch_tokens)


def _token_slices(order: LongArray, ends: LongArray, max_batch_tokens: int) -> Iterator[LongArray]:
    start, spent = 0, 0
    while start < len(order):
        stop = int(np.searchsorted(ends, spent + max_batch_tokens, side="right"))
        yield order[start:stop]
        start, spent = stop, int(ends[stop - 1])
