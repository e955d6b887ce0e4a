"""Which files can share a work unit: those whose rows fit into one table without changing a value's type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from reranker_batch.schema import canonical_field
from reranker_batch.storage.values import conform


def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of a file in canonical types."""
    return pa.schema([canonical_field(field) for field in schema])


def joined_schema(first: pa.Schema, second: pa.Schema) -> pa.Schema | None:
    """The columns of two files as one table; None if a value would have to change its type.

    A column or field that one of them lacks, or of which it has only nulls, becomes null there.
    """
    if first.equals(second):
        return first
    fields = _joined_fields([*first], [*second])
    return None if fields is None else pa.schema(fields)


def starting_anew(schemas: Sequence[pa.Schema]) -> set[int]:
    """The files that cannot share a unit with those before them."""
    starts = set()
    joined: pa.Schema | None = None
    for index, schema in enumerate(schemas):
        wider = schema if joined is None else joined_schema(joined, schema)
        if wider is None:
            starts.add(index)
        joined = wider or schema
    return starts


def joined_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several files in one table, one chunk a column.

    Raises:
        ValueError: They do not fit together.
    """
    if len(tables) == 1:
        return tables[0]
    schema = tables[0].schema
    for table in tables[1:]:
        wider = joined_schema(schema, table.schema)
        if wider is None:
            raise ValueError(f"{table.schema} does not fit {schema}")
        schema = wider
    return pa.table(
        {field.name: pa.concat_arrays(_column(table, field) for table in tables) for field in schema}, schema=schema
    )


def _column(table: pa.Table, field: pa.Field) -> pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    return conform(table.column(field.name).chunk(0), field.type)


def _joined_fields(first: Iterable[pa.Field], second: Iterable[pa.Field]) -> list[pa.Field] | None:
    types = {field.name: field.type for field in first}
    for field in second:
        joined = _joined_type(types.get(field.name, pa.null()), field.type)
        if joined is None:
            return None
        types[field.name] = joined
    return [pa.field(name, data_type) for name, data_type in types.items()]


def _joined_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    if first.equals(second) or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    if pa.types.is_large_list(first) and pa.types.is_large_list(second):
        item = _joined_type(first.value_type, second.value_type)
        return None if item is None else pa.large_list(item)
    if pa.types.is_struct(first) and pa.types.is_struct(second):
        fields = _joined_fields([*first], [*second])
        return None if fields is None else pa.struct(fields)
    return None
