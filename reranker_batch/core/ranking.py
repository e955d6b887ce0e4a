"""Raw logits to ranks and the kept candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import IntArray, LongArray


@dataclass(frozen=True)
class Ranked:
    """Kept candidates, ordered by query and rank. `order[i]` is the row that candidate `i` had before."""

    order: LongArray
    rank: IntArray


def rank_candidates(query: LongArray, index: IntArray, logits: FloatArray, *, top_n: int | None) -> Ranked:
    """Order the candidates of each query by logit, highest first, and keep the first `top_n`.

    All three arrays have shape [candidates]; queries come out in ascending order of `query`. Equal logits
    rank by `index`, so a rerun gives the same.
    """
    order = np.lexsort((index, -logits, query))
    rank = _places(query[order])
    kept = rank <= top_n if top_n is not None else np.ones(len(rank), dtype=bool)
    return Ranked(order=order[kept], rank=rank[kept].astype(np.int32))


def _places(groups: LongArray) -> LongArray:
    """1-based place of each row within its run of equal values."""
    is_first = np.ones(len(groups), dtype=bool)
    is_first[1:] = groups[1:] != groups[:-1]
    starts = np.flatnonzero(is_first)
    run = np.cumsum(is_first) - 1
    places: LongArray = np.arange(len(groups), dtype=np.int64) - starts[run] + 1
    return places
