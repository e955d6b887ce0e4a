"""Ids in columns of any type as texts."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.columns import id_family
from reranker_batch.storage.values import id_strings, list_of, list_values


def with_text_ids(table: pa.Table, ids: Collection[str], file: str) -> pa.Table:
    """A table of canonical types, a chunk a column, with the values at the dotted paths `ids` as texts.

    Raises:
        InputError: What stands there is not one value.
    """
    for at, name in enumerate(table.column_names):
        paths = [path for path in ids if path == name or path.startswith(f"{name}.")]
        if paths and len(table):
            table = table.set_column(at, name, _texts_at(table.column(at).chunk(0), name, paths, file))
    return table


def _texts_at(array: pa.Array, path: str, ids: Collection[str], file: str) -> pa.Array:
    if is_list_like(array.type):
        values = _texts_at(list_values(array), path, ids, file)
        return list_of(array, values, pa.large_list(values.type))
    if path in ids:
        if id_family(array.type) is None:
            raise InputError(f"{path!r} in {file} is {array.type}; an id must be one value. Check input.columns.")
        return id_strings(array)
    if not pa.types.is_struct(array.type) or not any(one.startswith(f"{path}.") for one in ids):
        return array
    children = zip(array.type, array.flatten(), strict=True)
    arrays = [_texts_at(child, f"{path}.{field.name}", ids, file) for field, child in children]
    return pa.StructArray.from_arrays(arrays, [field.name for field in array.type], mask=array.is_null())
