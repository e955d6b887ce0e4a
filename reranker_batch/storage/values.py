"""Arrow values brought into the plain types that the rest of the package sees."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.ragged import LongArray, offsets_of


def conform(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Bring an array into a canonical type: fields of a struct by name, missing ones null, numbers widened.

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
    if pa.types.is_large_list(target):
        values = conform(pc.list_flatten(array), target.value_type)
        offsets = pa.array(offsets_of(list_lengths(array)))
        return pa.LargeListArray.from_arrays(offsets, values, type=target, mask=array.is_null())
    return array.cast(target)


def _conform_struct(array: pa.StructArray, target: pa.StructType) -> pa.Array:
    names = [field.name for field in array.type]
    held = dict(zip(names, array.flatten(), strict=True))
    children = [conform(held.get(field.name, pa.nulls(len(array))), field.type) for field in target]
    if not children:
        return array
    return pa.StructArray.from_arrays(children, fields=list(target), mask=array.is_null())


def list_lengths(array: pa.Array) -> LongArray:
    """Lengths of lists; 0 for null."""
    if pa.types.is_null(array.type):
        return np.zeros(len(array), dtype=np.int64)
    lengths = pc.list_value_length(array).fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)


def id_strings(array: pa.Array) -> pa.Array:
    """Ids of any scalar type as `large_string`, so that different ids stay different.

    Bytes are taken for UTF-8 and not checked here, bytes of a fixed number are shown in hex, UUIDs with dashes.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        return conform(array, pa.large_string())
    if pa.types.is_fixed_size_binary(array.type):
        return _hex_strings(array, dashes=False)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.large_string())
    return pc.cast(array, options=pc.CastOptions(pa.large_string(), allow_invalid_utf8=True))


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
    found: list[int] = []
    pending = [np.arange(len(array), dtype=np.int64)]
    while pending:
        positions = pending.pop()
        if _is_valid(array if len(positions) == len(array) else array.take(pa.array(positions))):
            continue
        if len(positions) == 1:
            found.extend(positions.tolist())
        else:
            pending.extend(np.array_split(positions, 2))
    return np.asarray(sorted(found), dtype=np.int64)


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
        offsets = pa.array(offsets_of(list_lengths(array)))
        values = scrubbed(pc.list_flatten(array))
        return pa.LargeListArray.from_arrays(offsets, values, type=array.type, mask=array.is_null())
    if pa.types.is_struct(array.type):
        children = [scrubbed(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(children, fields=list(array.type), mask=array.is_null())
    return array
