"""Statistics of columns from a footer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.storage.input.columns import leaf_columns
from reranker_batch.storage.input.promotion import Range

Groups = Sequence[pq.RowGroupMetaData]


def num_values(groups: Groups, schema: pa.Schema, column: str, field: str) -> tuple[int, ...]:
    """Values and nulls of a column, or of a field of the structs in its lists, by row group."""
    leaf = next(leaf for leaf, *_ in leaf_columns(schema, {column: {field}}))
    return tuple(group.column(leaf).num_values for group in groups)


def may_hold_null_ids(groups: Groups, schema: pa.Schema, name: str | None) -> bool:
    """Whether a column may hold nulls, or NaN, which stands for no id and which a footer does not count."""
    leaf = next((leaf for leaf, *_ in leaf_columns(schema, {name: None})), None) if name is not None else None
    if leaf is None:
        return False
    if pa.types.is_floating(schema.field(name).type):
        return True
    statistics = [group.column(leaf).statistics for group in groups]
    return any(one is None or not one.has_null_count or one.null_count > 0 for one in statistics)


def value_ranges(
    groups: Groups, schema: pa.Schema, places: Mapping[str, tuple[str, str | None, pa.DataType]]
) -> dict[str, Range]:
    """The range of each column of integers or times whose footer tells it.

    `places` gives for each name the column, the field of the structs in its lists or None, and the type.
    """
    ranges = {}
    for name, (column, field, data_type) in places.items():
        if _has_range(data_type):
            [leaf] = [leaf for leaf, *_ in leaf_columns(schema, {column: None if field is None else {field}})]
            if (seen := _range(groups, leaf, data_type)) is not None:
                ranges[name] = seen
    return ranges


def _has_range(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(data_type) or types.is_timestamp(data_type) or types.is_duration(data_type))


def _range(groups: Groups, leaf: int, data_type: pa.DataType) -> Range | None:
    """(0, 0) where there are only nulls."""
    low = high = 0
    for group in groups:
        column = group.column(leaf)
        statistics = column.statistics
        if statistics is None or column.physical_type == "INT96":
            return None
        if statistics.has_min_max:
            is_time = pa.types.is_timestamp(data_type)
            bounds = (statistics.min_raw, statistics.max_raw) if is_time else (statistics.min, statistics.max)
            low, high = min(low, bounds[0]), max(high, bounds[1])
        elif not statistics.has_null_count or statistics.null_count < column.num_values:
            return None
    return low, high
