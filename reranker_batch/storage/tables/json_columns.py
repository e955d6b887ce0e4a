"""Python values, as JSON has them, as Arrow columns: each value as it is, or an error that says where it stands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

Path = tuple[str, ...]
_NONE = type(None)
_KINDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}
_MAX_DEPTH = 64


@dataclass
class MixedColumnError(Exception):
    """Values that no column can hold together, by their path: names, and `[]` for the elements of a list."""

    path: Path
    problem: str
    kinds: tuple[type, ...] = ()


def json_table(rows: Sequence[dict[str, Any]], ids: Collection[str]) -> pa.Table:
    """Rows as columns of canonical types, in the order in which their names are seen first.

    A missing key is null, and so is an object without any key, which no file format can hold. Texts stay as they are.
    Whole numbers next to fractions become floats where that loses nothing. Values at the dotted paths `ids` become
    texts. Invalid Unicode, whether bytes or lone surrogates, stays invalid.

    Raises:
        MixedColumnError: Values of one column are of different kinds.
    """
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    builder = _Builder(frozenset(ids))
    columns = [builder.column([row.get(name) for row in rows], (name,)) for name in names]
    return pa.table(columns, names)


@dataclass(frozen=True)
class _Builder:
    ids: frozenset[str]

    def column(self, values: list[Any], path: Path) -> pa.Array:
        kinds = {type(value) for value in values} - {_NONE}
        if not kinds:
            return pa.nulls(len(values))
        if len(path) > _MAX_DEPTH:
            raise MixedColumnError(path, f"is nested more than {_MAX_DEPTH} deep")
        if kinds == {list}:
            return self._lists(values, path)
        if ".".join(name for name in path if name != "[]") in self.ids:
            return _ids(values, kinds, path)
        if kinds == {dict}:
            return self._structs(values, path)
        if kinds == {str}:
            return texts(values)
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
        if kinds <= {int, float}:
            return _numbers(values, kinds, path)
        raise MixedColumnError(path, "has values of different kinds", tuple(kinds))

    def _lists(self, values: list[Any], path: Path) -> pa.Array:
        lengths = [0 if value is None else len(value) for value in values]
        items = self.column(list(chain.from_iterable(value for value in values if value)), (*path, "[]"))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, mask=_nulls(values))

    def _structs(self, values: list[Any], path: Path) -> pa.Array:
        names = list(dict.fromkeys(chain.from_iterable(value for value in values if value)))
        if not names:
            return pa.nulls(len(values))
        empty: dict[str, Any] = {}
        full = [value or empty for value in values]
        children = [self.column([value.get(name) for value in full], (*path, name)) for name in names]
        return pa.StructArray.from_arrays(children, names, mask=_nulls(values))


def _nulls(values: Iterable[Any]) -> pa.Array:
    return pa.array([value is None for value in values], pa.bool_())


def texts(values: list[Any]) -> pa.Array:
    """Texts as they are, those of invalid Unicode too."""
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:
        raw = pa.array([None if value is None else raw_text(value) for value in values], pa.large_binary())
        return raw.view(pa.large_string())


def raw_text(text: str) -> bytes:
    """The bytes that a text was decoded from with `surrogateescape`; other lone surrogates give invalid bytes."""
    try:
        raw = text.encode(errors="surrogateescape")
        raw.decode()
    except UnicodeError:
        pass
    else:
        return raw if text.isascii() or raw.decode() == text else text.encode(errors="surrogatepass")
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _ids(values: list[Any], kinds: set[type], path: Path) -> pa.Array:
    if not kinds <= {str, int}:
        wrong = next(kind for kind in kinds if kind not in (str, int))
        raise MixedColumnError(path, f"is an id and has {_KINDS[wrong]}; an id is text or a whole number", (wrong,))
    return texts([str(value) if type(value) is int else value for value in values])


def _numbers(values: list[Any], kinds: set[type], path: Path) -> pa.Array:
    if kinds == {int}:
        for data_type in (pa.int64(), pa.uint64()):
            try:
                return pa.array(values, data_type)
            except (OverflowError, pa.ArrowInvalid):
                pass
        raise MixedColumnError(path, "has a whole number that 64 bits do not hold")
    try:
        return pa.array(values, pa.float64())
    except (OverflowError, pa.ArrowInvalid):
        raise MixedColumnError(path, "has fractions, and a whole number that no float holds exactly") from None
