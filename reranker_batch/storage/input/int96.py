"""INT96 timestamps, which have nanoseconds and a range that no 64-bit count of nanoseconds has.

They are read as microseconds, as Spark means them; here the digits behind those are looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.schema import is_list_like
from reranker_batch.storage.values import list_values, map_entries

_NS_PER_US = np.int64(1_000)


def refuse_finer_digits(
    batches: Iterable[pa.RecordBatch], in_nanoseconds: Iterable[pa.RecordBatch], file: str
) -> Iterator[pa.RecordBatch]:
    """The batches, as long as they lose nothing of the same rows in nanoseconds, which may have fewer columns.

    Raises:
        InputError: A timestamp has digits behind the microseconds. Names file and column.
    """
    for batch, finer in zip(batches, in_nanoseconds, strict=True):
        for name in finer.schema.names:
            if _loses_digits(batch.column(name), finer.column(name)):
                raise InputError(
                    f"Column {name!r} in {file} has INT96 timestamps with nanoseconds, which are read as microseconds. "
                    "Write it as a 64-bit timestamp, or leave it out of input.columns.passthrough."
                )
        yield batch


def _loses_digits(micros: pa.Array, nanos: pa.Array) -> bool:
    """Whether they differ in a timestamp at any depth. Out of range both wrap around at the same place."""
    if micros.type == nanos.type:
        return False
    if pa.types.is_timestamp(micros.type):
        with np.errstate(over="ignore"):
            return bool((_ticks(nanos) != _ticks(micros) * _NS_PER_US).any())
    if is_list_like(micros.type):
        return _loses_digits(list_values(micros), list_values(nanos))
    if pa.types.is_map(micros.type):
        return _loses_digits(map_entries(micros), map_entries(nanos))
    return any(_loses_digits(*children) for children in zip(micros.flatten(), nanos.flatten(), strict=True))


def _ticks(array: pa.TimestampArray) -> LongArray:
    return np.asarray(array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False))
