"""Which shape the candidates of a nested file have, and where its columns are."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from reranker_batch.config import Columns
from reranker_batch.errors import InputError
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.columns import COLUMNS_KEY, FileColumns, FileSchema, Shape, is_text


def inspect_nested(file: FileSchema, names: Columns) -> FileColumns:
    """Find the columns of the config in a file with a row a query. Raises InputError as `FileSchema` does."""
    is_pairs = (document := file.type_of(names.document)) is not None and is_text(document)
    hint = " Or did you mean input.layout: pairs?" if is_pairs else ""
    candidates = file.need(names.candidates, COLUMNS_KEY + "candidates", hint)
    file.need_text(names.query, COLUMNS_KEY + "query")
    if pa.types.is_null(candidates):
        candidates = pa.large_list(pa.null())
    if not is_list_like(candidates):
        more = " A row of one text each is input.layout: pairs." if is_text(candidates) and not hint else hint
        raise InputError(
            f"Column {names.candidates!r} in {file.name} is {candidates}, a list of structs or of texts is expected. "
            f"Set {COLUMNS_KEY}candidates.{more}"
        )
    shape, doc_id, fields = _inspect_candidates(file, names, candidates.value_type)
    top: dict[str, pa.DataType] = {}
    inner: dict[str, pa.DataType] = {}
    for name in names.passthrough:
        _place_passthrough(file, name, shape, fields, top, inner)
    return FileColumns(shape, file.query_id(names), doc_id, top, inner)


def _inspect_candidates(
    file: FileSchema, names: Columns, item: pa.DataType
) -> tuple[Shape | None, pa.DataType | None, dict[str, pa.DataType]]:
    """Shape, type of the document ids, and the fields of the struct."""
    if pa.types.is_struct(item):
        fields = {field.name: field.type for field in item}
        if names.document not in fields or not is_text(fields[names.document]):
            seen = f"{fields[names.document]}" if names.document in fields else "missing"
            raise InputError(
                f"Field {names.document!r} of {names.candidates!r} in {file.name} is {seen}, text is expected; "
                f"found: {', '.join(fields)}. Set {COLUMNS_KEY}document."
            )
        if names.doc_id is None or (names.doc_id == "doc_id" and "doc_id" not in fields):
            return "structs", None, fields
        if names.doc_id not in fields:
            raise InputError(
                f"Field {names.doc_id!r} of {names.candidates!r} is missing in {file.name}; "
                f"found: {', '.join(fields)}. Set {COLUMNS_KEY}doc_id, or null for derived ids."
            )
        return "structs", file.need_id(names.doc_id, fields[names.doc_id], COLUMNS_KEY + "doc_id"), fields
    if not is_text(item):
        raise InputError(
            f"Column {names.candidates!r} in {file.name} is a list of {item}, a list of structs or of texts is "
            f"expected. Set {COLUMNS_KEY}candidates."
        )
    return *_inspect_id_list(file, names, is_open=pa.types.is_null(item)), {}


def _inspect_id_list(file: FileSchema, names: Columns, *, is_open: bool) -> tuple[Shape | None, pa.DataType | None]:
    """Shape and type of ids where the candidates are a list of texts."""
    ids = file.type_of(names.doc_id)
    if ids is None:
        if names.doc_id not in (None, "doc_id") and not is_open:
            file.need(names.doc_id, COLUMNS_KEY + "doc_id")
        return None if is_open else "texts", None
    if pa.types.is_null(ids):
        return None if is_open else "parallel_lists", ids
    if not is_list_like(ids):
        raise InputError(
            f"Column {names.doc_id!r} in {file.name} is {ids}, a list of ids for the list of texts "
            f"{names.candidates!r} is expected. Set {COLUMNS_KEY}doc_id, or null for derived ids."
        )
    return "parallel_lists", file.need_id(str(names.doc_id), ids.value_type, COLUMNS_KEY + "doc_id")


def _place_passthrough(
    file: FileSchema,
    name: str,
    shape: Shape | None,
    fields: Mapping[str, pa.DataType],
    top: dict[str, pa.DataType],
    inner: dict[str, pa.DataType],
) -> None:
    column = file.type_of(name)
    if column is not None and name in fields:
        raise InputError(
            f"Passthrough {name!r} is a column and a field of the candidates in {file.name}, so it is not clear "
            "which is meant. Rename one of them."
        )
    if column is not None:
        top[name] = column
    elif name in fields:
        inner[name] = fields[name]
    elif shape is not None:
        known = ", ".join([*file.schema.names, *fields])
        raise InputError(
            f"Passthrough {name!r} is missing in {file.name}; found: {known}. Set {COLUMNS_KEY}passthrough."
        )
