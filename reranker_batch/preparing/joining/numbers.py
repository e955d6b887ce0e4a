"""Scores and ranks of a run as numbers that compare exactly, or the first value that is none."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.schema import is_string_like

_PLAIN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


class NotANumberError(Exception):
    """A value that cannot be ordered, by its place in the column."""

    def __init__(self, row: int, value: str) -> None:
        super().__init__(row, value)
        self.row, self.value = row, value


def scores(column: pa.Array) -> pa.Array:
    """The column as float64.

    Raises:
        NotANumberError: A value is missing, NaN or no number.
    """
    numbers = _cast(column, pa.float64(), _score)
    is_bad = pc.fill_null(pc.is_nan(numbers), True)
    return _checked(column, numbers, is_bad)


def ranks(column: pa.Array) -> pa.Array:
    """The column as int64.

    Raises:
        NotANumberError: A value is missing or no whole number.
    """
    numbers = _cast(column, pa.int64(), _rank)
    return _checked(column, numbers, numbers.is_null())


def _cast(column: pa.Array, target: pa.DataType, parse: Callable[[str], float | None]) -> pa.Array:
    """Null for what is no such number."""
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if is_number:
        return _from_numbers(column, target)
    if not is_string_like(kind):
        return pa.nulls(len(column), target)
    try:
        return pc.cast(pc.utf8_trim_whitespace(column), target)
    except pa.ArrowInvalid:
        values = column.cast(pa.large_binary()).to_pylist()
        parsed = [None if value is None else parse(value.decode(errors="replace").strip()) for value in values]
        return pa.array(parsed, target)


def _from_numbers(column: pa.Array, target: pa.DataType) -> pa.Array:
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_float64(target):
        return column.cast(target, safe=False)
    if pa.types.is_integer(column.type):
        return column.cast(target)
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        is_whole = (values == np.trunc(values)) & (np.abs(values) < 2**53)
    return pa.array(np.where(is_whole, values, 0).astype(np.int64), mask=~is_whole)


def _score(text: str) -> float | None:
    return float(text) if _PLAIN.fullmatch(text) else None


def _rank(text: str) -> int | None:
    if _WHOLE.fullmatch(text):
        return int(text)
    value = _score(text)
    return int(value) if value is not None and math.isfinite(value) and value == int(value) else None


def _checked(column: pa.Array, numbers: pa.Array, is_bad: pa.Array) -> pa.Array:
    if (row := pc.index(is_bad, True).as_py()) < 0:
        return numbers
    value = column.cast(pa.large_binary())[row].as_py() if is_string_like(column.type) else column[row].as_py()
    shown = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    raise NotANumberError(row, "null" if value is None else shown[:60])
