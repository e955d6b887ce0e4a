"""The columns of input files: their types, names and leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from reranker_batch.config import Columns
from reranker_batch.errors import InputError
from reranker_batch.schema import canonical_type, is_list_like, is_string_like
from reranker_batch.storage.input.promotion import Range

Shape = Literal["structs", "texts", "parallel_lists", "pairs"]
"""Of the candidates: a list of structs, a list of texts, a list of texts and one of ids, or a row each."""

Wanted = Mapping[str, set[str] | None]
"""Columns to read, and of a list of structs the fields; None takes all fields."""

COLUMNS_KEY = "input.columns."


@dataclass(frozen=True)
class InputColumns:
    """The columns of all files together. Types are canonical and merged over the files."""

    shape: Shape
    query_passthrough: tuple[pa.Field, ...] = ()
    candidate_passthrough: tuple[pa.Field, ...] = ()


@dataclass(frozen=True)
class FileColumns:
    """The columns of one file. `shape` is None when its lists are all null or empty and could be any."""

    shape: Shape | None
    query_id: pa.DataType | None
    doc_id: pa.DataType | None
    query_passthrough: Mapping[str, pa.DataType]
    candidate_passthrough: Mapping[str, pa.DataType]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Of passthrough columns, as far as the footer tells."""


def candidate_struct(data_type: pa.DataType) -> pa.StructType | None:
    """The struct in a list of structs."""
    if is_list_like(data_type) and pa.types.is_struct(data_type.value_type):
        return data_type.value_type
    return None


def leaf_columns(schema: pa.Schema, wanted: Mapping[str, set[str] | None]) -> Iterator[tuple[int, str, str | None]]:
    """Number, top-level column and struct field of each Parquet leaf column that is wanted.

    `wanted` gives the top-level columns and, for a list of structs, the fields to take; None takes all. Leaves
    are counted, not looked up by path, because a name may contain a dot.
    """
    leaf = 0
    for column in schema:
        fields = wanted.get(column.name)
        struct = candidate_struct(column.type)
        parts = [(None, column.type)] if struct is None else [(field.name, field.type) for field in struct]
        for field_name, data_type in parts:
            leaves = range(leaf, leaf := leaf + _num_leaves(data_type))
            if column.name in wanted and (fields is None or field_name is None or field_name in fields):
                yield from ((number, column.name, field_name) for number in leaves)


def _num_leaves(data_type: pa.DataType) -> int:
    if not data_type.num_fields:
        return 1
    return sum(_num_leaves(data_type.field(position).type) for position in range(data_type.num_fields))


@dataclass(frozen=True)
class FileSchema:
    """The columns of one file by name; the errors name the file, the column and the config key."""

    name: str
    schema: pa.Schema

    @classmethod
    def of(cls, schema: pa.Schema, file: str) -> FileSchema:
        """Raises InputError where a name stands twice."""
        columns = cls(file, schema)
        columns._refuse_doubled()
        return columns

    def type_of(self, name: str | None) -> pa.DataType | None:
        """Canonical; None when there is no such column."""
        if name is None or name not in self.schema.names:
            return None
        return canonical_type(self.schema.field(name).type)

    def need(self, name: str, key: str, hint: str = "") -> pa.DataType:
        data_type = self.type_of(name)
        if data_type is None:
            raise InputError(
                f"Column {name!r} is missing in {self.name}; found: {', '.join(self.schema.names) or 'none'}. "
                f"Set {key}.{hint}"
            )
        return data_type

    def need_text(self, name: str, key: str, hint: str = "") -> None:
        data_type = self.need(name, key, hint)
        if not is_text(data_type):
            raise InputError(f"Column {name!r} in {self.name} is {data_type}, text is expected. Set {key}.{hint}")

    def need_id(self, name: str, data_type: pa.DataType, key: str) -> pa.DataType:
        if id_family(data_type) is None:
            raise InputError(
                f"{name!r} in {self.name} is {data_type}, an id must be one value. Set {key}, or null for derived ids."
            )
        return data_type

    def query_id(self, names: Columns) -> pa.DataType | None:
        """None if the default column is missing (ids are derived then); a configured column must exist."""
        if names.query_id is None or (names.query_id == "query_id" and self.type_of(names.query_id) is None):
            return None
        key = COLUMNS_KEY + "query_id"
        return self.need_id(names.query_id, self.need(names.query_id, key), key)

    def _refuse_doubled(self) -> None:
        for owner, names in _name_groups([*self.schema], ()):
            if doubled := [name for name, times in Counter(names).items() if times > 1]:
                of = f" of {'.'.join(owner)!r}" if owner else ""
                raise InputError(f"Column name {quoted(doubled)}{of} stands twice in {self.name}. Rename one.")


def _name_groups(fields: list[pa.Field], owner: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The groups of names that must be unique: top-level columns, and the fields of each struct, with their path."""
    yield owner, [field.name for field in fields]
    for child in fields:
        path, data_type = (*owner, child.name), child.type
        while is_list_like(data_type):
            data_type = data_type.value_type
        if pa.types.is_map(data_type):
            yield from _name_groups([pa.field("key", data_type.key_type), pa.field("value", data_type.item_type)], path)
        elif pa.types.is_struct(data_type):
            yield from _name_groups([*data_type], path)


def id_family(data_type: pa.DataType) -> str | None:
    """Types of one family give equal strings for equal ids. None if the type cannot be an id."""
    types = pa.types
    if types.is_null(data_type):
        return "null"
    if is_string_like(data_type):
        return "string"
    if types.is_integer(data_type) or types.is_duration(data_type):
        return "integer"
    if types.is_timestamp(data_type) and data_type.tz is not None:
        return f"timestamp[{data_type.unit}, tz=UTC]"
    if types.is_floating(data_type):
        return "float"
    is_scalar = (
        types.is_boolean(data_type)
        or types.is_decimal(data_type)
        or types.is_date(data_type)
        or types.is_time(data_type)
        or types.is_timestamp(data_type)
        or types.is_large_binary(data_type)
        or types.is_fixed_size_binary(data_type)
    )
    return str(data_type) if is_scalar else None


def is_text(data_type: pa.DataType) -> bool:
    """Whether values are texts; a column of nulls alone may be."""
    return is_string_like(data_type) or pa.types.is_null(data_type)


def quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
