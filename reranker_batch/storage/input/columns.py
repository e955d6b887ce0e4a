"""What the columns of an input file hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from reranker_batch.config import Columns, InputConfig
from reranker_batch.errors import InputError
from reranker_batch.schema import canonical_type, is_list_like, is_string_like
from reranker_batch.storage.input.promotion import Range

Shape = Literal["structs", "texts", "parallel_lists", "pairs"]
"""Of the candidates: a list of structs, a list of texts, a list of texts beside a list of ids, or a row each."""


@dataclass(frozen=True)
class InputColumns:
    """What all files of the input hold together. Types are canonical and merged over the files."""

    shape: Shape
    has_query_id: bool
    has_doc_id: bool
    query_passthrough: tuple[pa.Field, ...] = ()
    candidate_passthrough: tuple[pa.Field, ...] = ()


@dataclass(frozen=True)
class FileColumns:
    """What one file holds. `shape` is None when its lists are all null or empty and could be any."""

    shape: Shape | None
    query_id: pa.DataType | None
    doc_id: pa.DataType | None
    query_passthrough: Mapping[str, pa.DataType]
    candidate_passthrough: Mapping[str, pa.DataType]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    """Of passthrough columns, as far as the footer tells."""


def inspect_columns(schema: pa.Schema, config: InputConfig, file: str) -> FileColumns:
    """Find the columns of the config in a file.

    Raises:
        InputError: A column is missing, doubled or of the wrong type. Names file, column and config key.
    """
    names = config.columns
    found = _Found(file, schema)
    found.refuse_doubled()
    if config.layout == "pairs":
        return _inspect_pairs(found, names)
    return _inspect_nested(found, names)


def candidate_struct(data_type: pa.DataType) -> pa.StructType | None:
    """The struct in a list of structs."""
    if is_list_like(data_type) and pa.types.is_struct(data_type.value_type):
        return data_type.value_type
    return None


def leaf_columns(schema: pa.Schema, wanted: Mapping[str, set[str] | None]) -> Iterator[tuple[int, str, str | None]]:
    """Number, top-level column and struct field of each Parquet leaf column that holds something wanted.

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
class _Found:
    """The columns of one file, with the messages that name it."""

    file: str
    schema: pa.Schema

    def type_of(self, name: str | None) -> pa.DataType | None:
        """Canonical; None when there is no such column."""
        if name is None or name not in self.schema.names:
            return None
        return canonical_type(self.schema.field(name).type)

    def need(self, name: str, key: str, hint: str = "") -> pa.DataType:
        data_type = self.type_of(name)
        if data_type is None:
            raise InputError(
                f"Column {name!r} is missing in {self.file}; found: {', '.join(self.schema.names) or 'none'}. "
                f"Set {key}.{hint}"
            )
        return data_type

    def need_text(self, name: str, key: str, hint: str = "") -> None:
        data_type = self.need(name, key, hint)
        if not _is_text(data_type):
            raise InputError(f"Column {name!r} in {self.file} is {data_type}, text is expected. Set {key}.{hint}")

    def need_id(self, name: str, data_type: pa.DataType, key: str) -> pa.DataType:
        if id_family(data_type) is None:
            raise InputError(
                f"{name!r} in {self.file} is {data_type}, an id must be one value. Set {key}, or null for derived ids."
            )
        return data_type

    def query_id(self, names: Columns) -> pa.DataType | None:
        """Missing under its default name it is derived; a name that somebody gave must be there."""
        if names.query_id is None or (names.query_id == "query_id" and self.type_of(names.query_id) is None):
            return None
        return self.need_id(names.query_id, self.need(names.query_id, _KEY + "query_id"), _KEY + "query_id")

    def refuse_doubled(self) -> None:
        for owner, names in _name_groups([*self.schema], ()):
            if doubled := [name for name, times in Counter(names).items() if times > 1]:
                of = f" of {'.'.join(owner)!r}" if owner else ""
                raise InputError(f"Column name {quoted(doubled)}{of} stands twice in {self.file}. Rename one.")


def _name_groups(fields: list[pa.Field], owner: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """The names that must differ, at the top and in each struct, and by which path they are reached."""
    yield owner, [field.name for field in fields]
    for child in fields:
        path, data_type = (*owner, child.name), child.type
        while is_list_like(data_type):
            data_type = data_type.value_type
        if pa.types.is_map(data_type):
            yield from _name_groups([pa.field("key", data_type.key_type), pa.field("value", data_type.item_type)], path)
        elif pa.types.is_struct(data_type):
            yield from _name_groups([*data_type], path)


_KEY = "input.columns."


def _inspect_pairs(found: _Found, names: Columns) -> FileColumns:
    nested = found.type_of(names.candidates)
    hint = " Or did you mean input.layout: nested?" if nested is not None and is_list_like(nested) else ""
    found.need_text(names.query, _KEY + "query")
    found.need_text(names.document, _KEY + "document", hint)
    doc_id = None
    if names.doc_id is not None and (names.doc_id != "doc_id" or found.type_of("doc_id") is not None):
        doc_id = found.need_id(names.doc_id, found.need(names.doc_id, _KEY + "doc_id"), _KEY + "doc_id")
    carried = {name: found.need(name, _KEY + "passthrough") for name in names.passthrough}
    return FileColumns("pairs", found.query_id(names), doc_id, {}, carried)


def _inspect_nested(found: _Found, names: Columns) -> FileColumns:
    is_pairs = (document := found.type_of(names.document)) is not None and _is_text(document)
    hint = " Or did you mean input.layout: pairs?" if is_pairs else ""
    candidates = found.need(names.candidates, _KEY + "candidates", hint)
    found.need_text(names.query, _KEY + "query")
    if pa.types.is_null(candidates):
        candidates = pa.large_list(pa.null())
    if not is_list_like(candidates):
        more = " A row of one text each is input.layout: pairs." if _is_text(candidates) and not hint else hint
        raise InputError(
            f"Column {names.candidates!r} in {found.file} is {candidates}, a list of structs or of texts is expected. "
            f"Set {_KEY}candidates.{more}"
        )
    shape, doc_id, fields = _inspect_candidates(found, names, candidates.value_type)
    top: dict[str, pa.DataType] = {}
    inner: dict[str, pa.DataType] = {}
    for name in names.passthrough:
        _place_passthrough(found, name, shape, fields, top, inner)
    return FileColumns(shape, found.query_id(names), doc_id, top, inner)


def _inspect_candidates(
    found: _Found, names: Columns, item: pa.DataType
) -> tuple[Shape | None, pa.DataType | None, dict[str, pa.DataType]]:
    """Shape, type of the document ids, and the fields of the struct."""
    if pa.types.is_struct(item):
        fields = {field.name: field.type for field in item}
        if names.document not in fields or not _is_text(fields[names.document]):
            seen = f"{fields[names.document]}" if names.document in fields else "missing"
            raise InputError(
                f"Field {names.document!r} of {names.candidates!r} in {found.file} is {seen}, text is expected; "
                f"found: {', '.join(fields)}. Set {_KEY}document."
            )
        if names.doc_id is None or (names.doc_id == "doc_id" and "doc_id" not in fields):
            return "structs", None, fields
        if names.doc_id not in fields:
            raise InputError(
                f"Field {names.doc_id!r} of {names.candidates!r} is missing in {found.file}; "
                f"found: {', '.join(fields)}. Set {_KEY}doc_id, or null for derived ids."
            )
        return "structs", found.need_id(names.doc_id, fields[names.doc_id], _KEY + "doc_id"), fields
    if not _is_text(item):
        raise InputError(
            f"Column {names.candidates!r} in {found.file} is a list of {item}, a list of structs or of texts is "
            f"expected. Set {_KEY}candidates."
        )
    return *_inspect_ids_beside(found, names, is_open=pa.types.is_null(item)), {}


def _inspect_ids_beside(found: _Found, names: Columns, *, is_open: bool) -> tuple[Shape | None, pa.DataType | None]:
    """A list of ids that stands beside the list of texts."""
    ids = found.type_of(names.doc_id)
    if ids is None:
        if names.doc_id not in (None, "doc_id") and not is_open:
            found.need(names.doc_id, _KEY + "doc_id")
        return None if is_open else "texts", None
    if pa.types.is_null(ids):
        return None if is_open else "parallel_lists", ids
    if not is_list_like(ids):
        raise InputError(
            f"Column {names.doc_id!r} in {found.file} is {ids}, a list of ids beside the list of texts "
            f"{names.candidates!r} is expected. Set {_KEY}doc_id, or null for derived ids."
        )
    return "parallel_lists", found.need_id(str(names.doc_id), ids.value_type, _KEY + "doc_id")


def _place_passthrough(
    found: _Found,
    name: str,
    shape: Shape | None,
    fields: Mapping[str, pa.DataType],
    top: dict[str, pa.DataType],
    inner: dict[str, pa.DataType],
) -> None:
    column = found.type_of(name)
    if column is not None and name in fields:
        raise InputError(
            f"Passthrough {name!r} is a column and a field of the candidates in {found.file}, so it is not clear "
            "which is meant. Rename one of them."
        )
    if column is not None:
        top[name] = column
    elif name in fields:
        inner[name] = fields[name]
    elif shape is not None:
        known = ", ".join([*found.schema.names, *fields])
        raise InputError(f"Passthrough {name!r} is missing in {found.file}; found: {known}. Set {_KEY}passthrough.")


def id_family(data_type: pa.DataType) -> str | None:
    """Ids of one family become the same strings in every file. None: this cannot be an id."""
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


def _is_text(data_type: pa.DataType) -> bool:
    return is_string_like(data_type) or pa.types.is_null(data_type)


def quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
