"""Arrow values brought into the plain types that the rest of the package sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.ragged import LongArray, offsets_of


def conform(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Bring an array into a canonical or output type: fields of a struct by name, missing ones null, numbers widened.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit the type.
    """
    if array.type == target and not pa.types.is_struct(target):
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), target)
    if isinstance(array.type, pa.JsonType):
        return conform(array.storage, target)
    if isinstance(array.type, pa.UuidType):
        return _hex_strings(array.storage, dashes=True)
    if pa.types.is_struct(target):
        return _conform_struct(array, target)
    if pa.types.is_large_list(target) or pa.types.is_list(target):
        return list_of(array, conform(list_values(array), target.value_type), target)
    if pa.types.is_map(target):
        keys, items = list_values(map_entries(array)).flatten()
        return _map_of(array, conform(keys, target.key_type), conform(items, target.item_type), target)
    return array.cast(target)


def conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Each column in the type of the field at its place. Arrow's own cast makes invalid lists of structs with nulls.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit.
    """
    columns = [
        pa.chunked_array([conform(chunk, field.type) for chunk in column.chunks], field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def one_chunk(chunks: Sequence[pa.Array], target: pa.DataType) -> pa.Array:
    """A column in one piece, brought into a canonical type.

    Raises:
        pyarrow.ArrowInvalid: A value does not fit the type.
    """
    return pa.concat_arrays([conform(chunk, target) for chunk in chunks]) if chunks else pa.array([], target)


def map_entries(array: pa.MapArray) -> pa.ListArray:
    """A map as a list of structs of key and value, without a copy."""
    entries = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
    return pa.Array.from_buffers(
        pa.list_(entries.type), len(array), array.buffers()[:2], offset=array.offset, children=[entries]
    )


def list_of(like: pa.Array, values: pa.Array, data_type: pa.DataType) -> pa.Array:
    """`values` in lists as long as those of `like`, null where they are."""
    offsets = offsets_of(list_lengths(like))
    if pa.types.is_large_list(data_type):
        return pa.LargeListArray.from_arrays(pa.array(offsets), values, type=data_type, mask=like.is_null())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=data_type, mask=like.is_null())


def _map_of(like: pa.MapArray, keys: pa.Array, items: pa.Array, data_type: pa.DataType) -> pa.Array:
    offsets = pa.array(offsets_of(list_lengths(map_entries(like))), pa.int32())
    return pa.MapArray.from_arrays(offsets, keys, items, type=data_type, mask=like.is_null())


def _conform_struct(array: pa.StructArray, target: pa.StructType) -> pa.Array:
    names = [field.name for field in array.type]
    present = dict(zip(names, array.flatten(), strict=True))
    children = [conform(present.get(field.name, pa.nulls(len(array))), field.type) for field in target]
    if not children:
        return array
    return pa.StructArray.from_arrays(children, fields=list(target), mask=array.is_null())


def list_values(array: pa.Array) -> pa.Array:
    """What lists hold, one after the other, without what stands behind nulls."""
    if array.null_count == len(array):  # Arrow cannot make an empty array of an extension type
        return array.values.slice(0, 0)
    return pc.list_flatten(array)


def list_lengths(array: pa.Array) -> LongArray:
    """Lengths of lists; 0 for null."""
    if pa.types.is_null(array.type):
        return np.zeros(len(array), dtype=np.int64)
    lengths = pc.list_value_length(array).fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)


def id_strings(array: pa.Array) -> pa.Array:
    """Ids of any scalar type as `large_string`, so that different ids stay different.

    Bytes are taken for UTF-8 and not checked here, bytes of a fixed number are shown in hex, UUIDs with dashes.
    Floats are shown without an exponent, whole ones without a point, NaN is null; times with a zone in UTC.
    """
    if pa.types.is_floating(array.type):
        return _float_strings(array)
    if pa.types.is_duration(array.type):
        array = array.cast(pa.int64())
    if pa.types.is_timestamp(array.type) and array.type.tz is not None:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    if isinstance(array.type, pa.BaseExtensionType):
        return conform(array, pa.large_string())
    if pa.types.is_fixed_size_binary(array.type):
        return _hex_strings(array, dashes=False)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.large_string())
    return pc.cast(array, options=pc.CastOptions(pa.large_string(), allow_invalid_utf8=True))


def _float_strings(array: pa.Array) -> pa.Array:
    """As Arrow shows them, but for NaN, -0 and what it shows with an exponent."""
    numbers = array.cast(pa.float64()) if pa.types.is_float16(array.type) else array
    is_number = pc.fill_null(pc.invert(pc.is_nan(numbers)), False)
    texts = pc.if_else(is_number, numbers.cast(pa.large_string()), pa.scalar(None, pa.large_string()))
    texts = pc.if_else(pc.fill_null(pc.equal(numbers, 0), False), pa.scalar("0", pa.large_string()), texts)
    is_odd = pc.fill_null(pc.match_substring(texts, "e"), False)
    if not pc.any(is_odd).as_py():
        return texts
    odd = numbers.filter(is_odd).dictionary_encode()
    plain = pa.array([_without_exponent(number) for number in odd.dictionary.to_numpy()], pa.large_string())
    return pc.replace_with_mask(texts, is_odd, plain.take(odd.indices))


def _without_exponent(number: np.floating[Any]) -> str:
    """A whole number as it is, all digits; any other by the fewest digits that lead back to it."""
    is_whole = number == np.trunc(number)
    return str(int(number)) if is_whole else np.format_float_positional(number, unique=True, trim="-")


def _hex_strings(array: pa.Array, *, dashes: bool) -> pa.Array:
    width = array.type.byte_width
    filled = array.fill_null(bytes(width)) if array.null_count else array
    data = b"".join(filled.to_pylist())
    codes = np.frombuffer(data.hex().encode(), dtype="S1").reshape(len(array), 2 * width)
    if dashes:
        codes = np.insert(codes, [8, 12, 16, 20], b"-", axis=1)
    offsets = np.arange(len(array) + 1, dtype=np.int64) * codes.shape[1]
    text = pa.Array.from_buffers(
        pa.large_string(), len(array), [None, pa.py_buffer(offsets), pa.py_buffer(codes.tobytes())]
    )
    return pc.if_else(array.is_valid(), text, pa.scalar(None, pa.large_string()))


def invalid_positions(array: pa.Array) -> LongArray:
    """Positions whose text, at any depth, is not valid UTF-8. Costs one pass when all is well."""
    invalid: list[int] = []
    pending = [np.arange(len(array), dtype=np.int64)]
    while pending:
        positions = pending.pop()
        if _is_valid(array if len(positions) == len(array) else array.take(pa.array(positions))):
            continue
        if len(positions) == 1:
            invalid.extend(positions.tolist())
        else:
            pending.extend(np.array_split(positions, 2))
    return np.asarray(sorted(invalid), dtype=np.int64)


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def scrubbed(array: pa.Array) -> pa.Array:
    """The same values with bytes that are no valid UTF-8 replaced by U+FFFD, at any depth."""
    if _is_valid(array):
        return array
    if pa.types.is_large_string(array.type):
        values = array.cast(pa.large_binary()).to_pylist()
        return pa.array([None if value is None else value.decode(errors="replace") for value in values], array.type)
    if pa.types.is_large_list(array.type):
        return list_of(array, scrubbed(list_values(array)), array.type)
    if pa.types.is_map(array.type):
        keys, items = list_values(map_entries(array)).flatten()
        return _map_of(array, scrubbed(keys), scrubbed(items), array.type)
    if pa.types.is_struct(array.type):
        children = [scrubbed(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(children, fields=list(array.type), mask=array.is_null())
    return array
