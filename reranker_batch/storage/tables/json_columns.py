"""Python values, as JSON has them, as Arrow columns: each value as it is, or an error that says which are at odds."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.storage.tables.columns import table_of
from reranker_batch.storage.tables.json_values import KINDS, Infinity

Path = tuple[str, ...]
"""Names, and `[]` for the elements of a list."""
Example = tuple[str, Callable[[Any], bool]]
"""A kind of value in words, and how to know one."""
_NONE = type(None)
_MAX_DEPTH = 64
_MAX_NAMES = 4_096
"""Each is a column, which takes memory in every row."""
_ONE_TYPE = "Write the column with one type; if it is an id, name it in input.columns."


class MixedColumnError(Exception):
    """Values that no column can hold, or not together."""

    def __init__(self, path: Path, problem: str, examples: Sequence[Example], remedy: str) -> None:
        super().__init__(problem)
        self.path, self.problem, self.examples, self.remedy = path, problem, examples, remedy


def json_table(rows: Sequence[dict[str, Any]], ids: Collection[str]) -> pa.Table:
    """Rows as columns of canonical types, in the order in which their names are seen first.

    A missing key is null, and so is an object without any key, which no file format can hold. Texts stay as they are.
    Whole numbers next to fractions become floats where that loses nothing. Values at the dotted paths `ids` become
    texts. Invalid Unicode, whether bytes or lone surrogates, stays invalid.

    Raises:
        MixedColumnError: Values of one column are of different kinds.
    """
    names = _names(rows, ())
    builder = _Builder(frozenset(ids))
    columns = {name: builder.column([row.get(name) for row in rows], (name,)) for name in names}
    return table_of(columns, len(rows))


@dataclass(frozen=True)
class _Builder:
    ids: frozenset[str]

    def column(self, values: list[Any], path: Path) -> pa.Array:
        kinds = {type(value) for value in values} - {_NONE}
        if not kinds:
            return pa.nulls(len(values))
        if len(path) > _MAX_DEPTH:
            raise MixedColumnError(path[:1], f"is nested more than {_MAX_DEPTH} deep", (), "Leave it out.")
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
        if kinds <= {int, float, Infinity}:
            return _numbers(values, kinds, path)
        first, second = list(dict.fromkeys(type(value) for value in values if value is not None))[:2]
        raise MixedColumnError(path, "has values of different types", (_example(first), _example(second)), _ONE_TYPE)

    def _lists(self, values: list[Any], path: Path) -> pa.Array:
        lengths = [0 if value is None else len(value) for value in values]
        items = self.column(list(chain.from_iterable(value for value in values if value)), (*path, "[]"))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, mask=_nulls(values))

    def _structs(self, values: list[Any], path: Path) -> pa.Array:
        names = _names((value for value in values if value), path)
        if not names:
            return pa.nulls(len(values))
        empty: dict[str, Any] = {}
        full = [value or empty for value in values]
        children = [self.column([value.get(name) for value in full], (*path, name)) for name in names]
        return pa.StructArray.from_arrays(children, names, mask=_nulls(values))


def _names(objects: Iterable[dict[str, Any]], path: Path) -> list[str]:
    names = list(dict.fromkeys(chain.from_iterable(objects)))
    if len(names) > _MAX_NAMES:
        what = (f"the first of more than {_MAX_NAMES:,} names", lambda value: value is not None)
        remedy = "Names are columns: write what they name as a list of objects, or leave it out."
        raise MixedColumnError(path, "has names that seem to be values", (what,), remedy)
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        wrong = next(name for name in names if any("\ud800" <= char <= "\udfff" for char in name))
        what = (f"{wrong[:60]!r}", lambda value: bool(value) and wrong in value)
        raise MixedColumnError(path, "has a name that is no valid Unicode", (what,), "Rename it.") from None
    return names


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
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
    is_same = raw.decode(errors="surrogateescape") == text  # surrogates of the text itself could add up to a character
    return raw if is_same else text.encode(errors="surrogatepass")


def _ids(values: list[Any], kinds: set[type], path: Path) -> pa.Array:
    for kind in sorted(kinds - {str, int}, key=[*KINDS, Infinity].index):
        raise MixedColumnError(path, "is an id", (_example(kind),), "An id is text or a whole number.")
    return texts([str(value) if type(value) is int else value for value in values])


def _numbers(values: list[Any], kinds: set[type], path: Path) -> pa.Array:
    if kinds == {int}:
        return _integers(values, path)
    if math.inf in values or -math.inf in values:
        _refuse_overflow(values, path)
    if int in kinds and any(map(_is_inexact, values)):
        what = ("a whole number that no float holds exactly", _is_inexact)
        raise MixedColumnError(path, "has fractions", (what,), _ONE_TYPE)
    return pa.array([None if value is None else float(value) for value in values], pa.float64())


def _integers(values: list[Any], path: Path) -> pa.Array:
    for data_type in (pa.int64(), pa.uint64()):
        try:
            return pa.array(values, data_type)
        except (OverflowError, pa.ArrowInvalid):
            pass
    what = ("a whole number of more than 64 bits", lambda value: type(value) is int and not -(2**63) <= value < 2**63)
    raise MixedColumnError(path, "has numbers", (what,), "Write it as text.")


def _refuse_overflow(values: list[Any], path: Path) -> None:
    def is_too_large(value: Any) -> bool:
        return type(value) is float and math.isinf(value)

    if any(map(is_too_large, values)):
        what = ("one that no float holds", is_too_large)
        raise MixedColumnError(path, "has numbers", (what,), "Write it as text.")


def _is_inexact(value: Any) -> bool:
    if type(value) is not int:
        return False
    try:
        return int(float(value)) != value
    except OverflowError:
        return True


def _example(kind: type) -> Example:
    return KINDS[kind] if kind in KINDS else KINDS[float], lambda value: type(value) is kind
