"""One type for the values of several files, and whether it keeps each of them as it is."""

from __future__ import annotations

import pyarrow as pa

from reranker_batch.schema import is_list_like

Range = tuple[int, int]
"""Least and greatest value of a column as plain integers: numbers, or ticks of its unit."""

_MANTISSA_BITS = {16: 11, 32: 24, 64: 53}
_UNITS = ["s", "ms", "us", "ns"]
_MAX_DECIMAL_DIGITS = 76


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """The narrowest type that can stand for both; None where there is none. Both are canonical."""
    types = pa.types
    if first == second or types.is_null(second):
        return first
    if types.is_null(first):
        return second
    if is_list_like(first) and is_list_like(second):
        value = common_type(first.value_type, second.value_type)
        return None if value is None else pa.large_list(value)
    if types.is_map(first) and types.is_map(second):
        key, item = common_type(first.key_type, second.key_type), common_type(first.item_type, second.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if types.is_struct(first) and types.is_struct(second):
        return _common_struct(first, second)
    if _is_bytes(first) and _is_bytes(second):
        return pa.large_binary()
    if types.is_timestamp(first) and types.is_timestamp(second):
        return _common_timestamp(first, second)
    if types.is_decimal(first) or types.is_decimal(second):
        return _common_decimal(first, second)
    for is_kind in (_is_number, types.is_time, types.is_duration):
        if is_kind(first) and is_kind(second):
            return _permissive(first, second)
    return None


def keeps_values(source: pa.DataType, target: pa.DataType, seen: Range | None) -> bool:
    """Whether every value of `source` comes out of `target` as it was; `seen` where its values are known."""
    types = pa.types
    if source == target or types.is_null(source):
        return True
    if is_list_like(source):
        return keeps_values(source.value_type, target.value_type, None)
    if types.is_map(source):
        return keeps_values(source.key_type, target.key_type, None) and keeps_values(
            source.item_type, target.item_type, None
        )
    if types.is_struct(source):
        fields = {field.name: field.type for field in target}
        return all(keeps_values(field.type, fields[field.name], None) for field in source)
    if types.is_integer(source) and not types.is_decimal(target):
        low, high = seen or _integer_range(source)
        return _exact_range(target)[0] <= low and high <= _exact_range(target)[1]
    if types.is_timestamp(source) or types.is_duration(source):
        return _fits_ticks(source.unit, target.unit, seen)
    return True


def _is_number(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_integer(data_type) or pa.types.is_floating(data_type))


def _is_bytes(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(data_type) or pa.types.is_fixed_size_binary(data_type))


def _permissive(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    schemas = [pa.schema([("value", first)]), pa.schema([("value", second)])]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type


def _common_struct(first: pa.StructType, second: pa.StructType) -> pa.DataType | None:
    """All fields of both, by name."""
    fields = {field.name: field.type for field in first}
    for field in second:
        merged = common_type(fields.get(field.name, field.type), field.type)
        if merged is None:
            return None
        fields[field.name] = merged
    return pa.struct(list(fields.items()))


def _common_timestamp(first: pa.TimestampType, second: pa.TimestampType) -> pa.DataType | None:
    """Moments of different zones are the same moments in UTC; a time without a zone is none of them."""
    if (first.tz is None) != (second.tz is None):
        return None
    return pa.timestamp(max(first.unit, second.unit, key=_UNITS.index), first.tz if first.tz == second.tz else "UTC")


def _common_decimal(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """All digits before the point and behind it; integers are decimals too, floats are not."""
    digits = [_decimal_digits(first), _decimal_digits(second)]
    whole, scale = (max((pair[at] for pair in digits if pair is not None), default=0) for at in (0, 1))
    if None in digits or whole + scale > _MAX_DECIMAL_DIGITS:
        return None
    return pa.decimal128(whole + scale, scale) if whole + scale <= 38 else pa.decimal256(whole + scale, scale)


def _decimal_digits(data_type: pa.DataType) -> tuple[int, int] | None:
    if pa.types.is_integer(data_type):
        return len(str(_integer_range(data_type)[1])), 0
    if not pa.types.is_decimal(data_type):
        return None
    return data_type.precision - data_type.scale, data_type.scale


def _integer_range(data_type: pa.DataType) -> Range:
    bits = data_type.bit_width
    if pa.types.is_unsigned_integer(data_type):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _exact_range(data_type: pa.DataType) -> Range:
    """The integers that the type holds without gaps."""
    if pa.types.is_floating(data_type):
        bound = 2 ** _MANTISSA_BITS[data_type.bit_width]
        return -bound, bound
    return _integer_range(data_type)


def _fits_ticks(unit: str, target_unit: str, seen: Range | None) -> bool:
    """Nanoseconds reach from 1677 to 2262, so who goes there has to know the values; coarser units reach far enough."""
    if unit == target_unit:
        return True
    if seen is None:
        return target_unit != "ns"
    factor = 1000 ** (_UNITS.index(target_unit) - _UNITS.index(unit))
    return bool(max(abs(seen[0]), abs(seen[1])) * factor < 2**63)
