"""Which bucket an id belongs to: the same in every process, on every machine and in every version."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reranker_batch.core.pair_texts import DistinctTexts, text_keys
from reranker_batch.core.ragged import LongArray

HashArray = npt.NDArray[np.uint64]


def id_hashes(ids: pa.Array | pa.ChunkedArray) -> HashArray:
    """64 bits of the BLAKE2b of each id. There are no nulls among them."""
    distinct = DistinctTexts.of(ids)
    return np.ascontiguousarray(text_keys(distinct.texts)[:, 0])[distinct.at]


def buckets_of(hashes: HashArray, num_buckets: int) -> LongArray:
    """A number below `num_buckets` for each hash."""
    return (hashes % np.uint64(num_buckets)).astype(np.int64)
