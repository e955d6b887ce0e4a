"""Random Arrow types and values that Parquet can hold, and what they say in plain Python."""

from __future__ import annotations

import math
import random
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

_WORDS = ["", "a", "7", "ü", "🙂 x", "1e5", "NaN", "word word", "x\x00y", "日本"]
_DAY_NS = 86_400 * 10**9
_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

TEXT_TYPES: list[pa.DataType] = [
    pa.string(),
    pa.large_string(),
    pa.dictionary(pa.int32(), pa.string()),
]
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
TIMES = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.date32(), pa.date64()]
TIMES += [pa.timestamp(unit, zone) for unit in _UNIT_NS for zone in (None, "UTC", "Europe/Berlin", "+02:00")]
DURATIONS = [pa.duration(unit) for unit in _UNIT_NS]
DECIMALS = [pa.decimal128(9, 2), pa.decimal128(9, 4), pa.decimal128(38, 10), pa.decimal256(60, 3)]
BYTES = [pa.binary(), pa.large_binary(), pa.binary(3), pa.binary(16)]
LEAVES = [pa.bool_(), *INTEGERS, *FLOATS, *TIMES, *DURATIONS, *DECIMALS, *BYTES, *TEXT_TYPES, pa.uuid(), pa.null()]
LEAVES += [pa.dictionary(pa.int8(), pa.int64())]


def types(leaves: list[pa.DataType] = LEAVES, *, depth: int = 2) -> st.SearchStrategy[pa.DataType]:
    """Leaves, and lists, structs and maps of them."""
    leaf = st.sampled_from(leaves)
    if depth == 0:
        return leaf
    inner = types([data_type for data_type in leaves if not pa.types.is_dictionary(data_type)], depth=depth - 1)
    names = st.lists(st.sampled_from(["a", "b", "c.d", "é"]), min_size=1, max_size=3, unique=True)
    structs = names.flatmap(
        lambda found: st.tuples(*[inner] * len(found)).map(lambda held: pa.struct(list(zip(found, held, strict=True))))
    )
    keys = st.sampled_from([pa.string(), pa.int32()])
    maps = st.tuples(keys, inner).map(lambda pair: pa.map_(*pair))
    lists = st.one_of(inner.map(pa.list_), inner.map(pa.large_list))
    return st.one_of(leaf, leaf, leaf, lists, structs, maps)


def array_of(data_type: pa.DataType, length: int, chance: random.Random, *, wild: bool = True) -> pa.Array:
    """Random values, extremes among them; `wild` ones may be text that is not UTF-8."""
    has_nulls = chance.random() < 0.5
    mask = np.array([has_nulls and chance.random() < 0.3 for _ in range(length)], dtype=bool)
    if pa.types.is_null(data_type):
        return pa.nulls(length)
    if pa.types.is_dictionary(data_type):
        return array_of(data_type.value_type, length, chance, wild=wild).dictionary_encode().cast(data_type)
    if pa.types.is_struct(data_type):
        children = [array_of(field.type, length, chance, wild=wild) for field in data_type]
        return pa.StructArray.from_arrays(children, fields=list(data_type), mask=pa.array(mask))
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_map(data_type):
        return _lists(data_type, mask, chance, wild)
    if isinstance(data_type, pa.UuidType):
        uuids = [uuid.UUID(int=chance.getrandbits(128)).bytes for _ in range(length)]
        storage = pa.array([None if gone else value for value, gone in zip(uuids, mask, strict=True)], pa.binary(16))
        return pa.ExtensionArray.from_storage(data_type, storage)
    values = [None if gone else _value(data_type, chance, wild) for gone in mask]
    return _leaf_array(data_type, values)


def _lists(data_type: pa.DataType, mask: np.ndarray[Any, Any], chance: random.Random, wild: bool) -> pa.Array:
    lengths = [0 if gone else chance.choice([0, 1, 1, 2, 3]) for gone in mask]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    total = sum(lengths)
    if pa.types.is_map(data_type):
        keys = [f"k{at}" if pa.types.is_string(data_type.key_type) else at for at in range(total)]
        items = array_of(data_type.item_type, total, chance, wild=wild)
        return pa.MapArray.from_arrays(offsets, pa.array(keys, data_type.key_type), items, mask=pa.array(mask))
    values = array_of(data_type.value_type, total, chance, wild=wild)
    if pa.types.is_large_list(data_type):
        return pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), values, mask=pa.array(mask))
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(mask))


def _value(data_type: pa.DataType, chance: random.Random, wild: bool) -> Any:
    types = pa.types
    if types.is_boolean(data_type):
        return chance.random() < 0.5
    if types.is_integer(data_type):
        low = 0 if types.is_unsigned_integer(data_type) else -(2 ** (data_type.bit_width - 1))
        high = low + 2**data_type.bit_width - 1
        return chance.choice([low, high, 0, 1, 100, high // 2 + 1, chance.randint(low, high)])
    if types.is_floating(data_type):
        large = 60_000.0 if types.is_float16(data_type) else 3e38
        return chance.choice([0.0, -0.0, 1.0, 0.1, 1e-5, large, math.inf, -math.inf, math.nan, chance.gauss(0, 1e4)])
    if types.is_decimal(data_type):
        digits = chance.choice([1, data_type.precision])
        return chance.choice([-1, 1]) * chance.randint(0, 10**digits - 1)
    if types.is_fixed_size_binary(data_type):
        return chance.randbytes(data_type.byte_width)
    if types.is_binary(data_type) or types.is_large_binary(data_type):
        return chance.randbytes(chance.randint(0, 4))
    if types.is_temporal(data_type):
        return _ticks(data_type, chance)
    word = chance.choice(_WORDS).encode()
    return b"\xff" + word if wild and chance.random() < 0.03 else word


def _ticks(data_type: pa.DataType, chance: random.Random) -> int:
    if pa.types.is_time(data_type):
        return chance.randrange(_DAY_NS // _UNIT_NS[data_type.unit])
    if pa.types.is_date(data_type):
        days = chance.choice([0, 1, -1, 2_932_896, chance.randint(-700_000, 700_000)])
        return days if pa.types.is_date32(data_type) else days * 86_400_000
    limit = min(
        2**63 - 1, 2**62 // 10**6 if data_type.unit == "s" else 2**63 - 1
    )  # seconds are written as milliseconds
    return chance.choice([0, 1, -1, 1_790_000_000, chance.randint(-limit // 1000, limit // 1000), limit // 1000])


def _leaf_array(data_type: pa.DataType, values: list[Any]) -> pa.Array:
    types = pa.types
    if types.is_floating(data_type):
        return pa.array([None if value is None else np.float64(value) for value in values], pa.float64()).cast(
            data_type, safe=False
        )
    if types.is_decimal(data_type):
        scaled = pa.array(values, pa.decimal256(76, 0)) if any(value is not None for value in values) else None
        if scaled is None:
            return pa.nulls(len(values), data_type)
        wide = pa.decimal256(data_type.precision, 0)
        return _decimals(pa.array(values, wide), data_type)
    if types.is_temporal(data_type):
        storage = pa.int32() if data_type.bit_width == 32 else pa.int64()
        return pa.array(values, storage).view(data_type)
    if types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type):
        plain = pa.large_binary() if types.is_large_string(data_type) else pa.binary()
        stored = pa.array(values, plain)
        text = pa.large_string() if types.is_large_string(data_type) else pa.string()
        texts = pa.Array.from_buffers(text, len(values), stored.buffers())
        return texts.cast(data_type) if types.is_string_view(data_type) else texts
    return pa.array(values, data_type)


def _decimals(whole: pa.Array, data_type: pa.DataType) -> pa.Array:
    """The same digits with the point moved."""
    as_wide = pa.decimal256(data_type.precision, data_type.scale)
    moved = pa.Array.from_buffers(as_wide, len(whole), whole.buffers())
    return moved.cast(data_type)


def meaning(array: pa.Array, *, has_spans: bool = True) -> list[Any]:
    """Values in plain Python, the same for all types that hold the same: moments and spans of time in nanoseconds.

    Without `has_spans` a span is the number that it is written as.
    """
    data_type = array.type
    types = pa.types
    if types.is_dictionary(data_type):
        return meaning(array.dictionary_decode(), has_spans=has_spans)
    if isinstance(data_type, pa.UuidType):
        return [None if value is None else str(uuid.UUID(bytes=value)) for value in array.storage.to_pylist()]
    if types.is_duration(data_type) and not has_spans:
        return list(array.view(pa.int64()).to_pylist())
    if types.is_temporal(data_type):
        return _nanoseconds(array)
    if types.is_struct(data_type):
        children = [meaning(child, has_spans=has_spans) for child in array.flatten()]
        names = [field.name for field in data_type]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*children, strict=True)]
        return [row if is_valid else None for row, is_valid in zip(rows, array.is_valid().to_pylist(), strict=True)]
    if types.is_map(data_type) or types.is_list(data_type) or types.is_large_list(data_type):
        return [None if not scalar.is_valid else meaning(scalar.values, has_spans=has_spans) for scalar in array]
    if types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type):
        stored = array.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode(errors="replace") for value in stored]
    if types.is_floating(data_type):
        return ["NaN" if value != value else value for value in array.to_pylist()]
    return list(array.to_pylist())


def _nanoseconds(array: pa.Array) -> list[int | None]:
    storage = pa.int32() if array.type.bit_width == 32 else pa.int64()
    if pa.types.is_date32(array.type):
        factor = _DAY_NS
    elif pa.types.is_date64(array.type):
        factor = 10**6
    else:
        factor = _UNIT_NS[array.type.unit]
    return [None if value is None else value * factor for value in array.view(storage).to_pylist()]


def fits(was: Any, now: Any) -> bool:
    """Equal, but for fields that other files have, which are null."""
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() <= now.keys() and all(fits(was.get(name), value) for name, value in now.items())
    if isinstance(was, list | tuple) and isinstance(now, list | tuple):
        return len(was) == len(now) and all(map(fits, was, now))
    return bool(was == now)
