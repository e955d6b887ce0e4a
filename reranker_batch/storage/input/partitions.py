"""Columns that stand in the names of folders, as Hive and Spark write them: `date=2026-11-20/`."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Container, Mapping
from itertools import takewhile
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.storage.input.columns import leaf_columns
from reranker_batch.storage.input.statistics import Groups

Partitions = Mapping[str, str | None]
"""Value by column. Always text: a folder's name has no type, and what guesses one takes `01` and `1` for equal."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
_LONGEST_STATISTIC = 32
"""Characters; writers may leave a longer text in a footer cut."""


def partitions_above(folder: str) -> dict[str, str | None]:
    """The columns of the folder that an input begins at: it and those above it, as long as they are partitions.

    Raises:
        InputError: As `partitions_of`.
    """
    names = [name for name in folder.split("/") if name]
    return _values([*takewhile(_is_partition, reversed(names))], folder)


def partitions_of(folder: str, file: str) -> dict[str, str | None]:
    """The columns of a file by the folders that it lies in; `file` is relative to the input's `folder`.

    Raises:
        InputError: A column stands there twice with different values, or its name or value is not valid UTF-8.
    """
    inside = _values([*filter(_is_partition, posixpath.dirname(file).split("/"))], file)
    above = partitions_above(folder)
    _refuse_differing(above, inside, file)
    return above | inside


def constants_of(folder: str, file: str, own: Container[str]) -> dict[str, str | None]:
    """The partitions that are columns of a file; `own` are the names that stand in the file itself, which win.

    Raises:
        InputError: As `partitions_of`.
    """
    return {name: value for name, value in partitions_of(folder, file).items() if name not in own}


def with_constants(schema: pa.Schema, constants: Partitions) -> pa.Schema:
    """The columns behind those of the file, whose leaves keep their numbers."""
    return pa.schema([*schema, *(pa.field(name, pa.large_string()) for name in constants)])


def constant_column(value: str | None, num_rows: int) -> pa.Array:
    """A column that has the same value in every row."""
    return pa.repeat(pa.scalar(value, pa.large_string()), num_rows)


def refuse_other_values(file: str, asked: set[str], schema: pa.Schema, groups: Groups) -> None:
    """Compare the columns that are asked for, and stand in the file and in its folders, as far as the footer tells.

    Raises:
        InputError: The folder says another value than the file. Names both.
    """
    inside = _values([*filter(_is_partition, posixpath.dirname(file).split("/"))], file)
    for name in sorted(asked & inside.keys() & {*schema.names}):
        for value in _bounds(groups, schema, name):
            if not _is_same(value, inside[name]):
                raise InputError(
                    f"Column {name!r} of {file} has the value {_shown(value)} in the file and {inside[name]!r} in the "
                    "name of its folder, so it is not clear which is meant. Rename one of them."
                )


def _is_partition(name: str) -> bool:
    return re.match(r"[^=]+=", name) is not None


def _values(folders: list[str], place: str) -> dict[str, str | None]:
    values: dict[str, str | None] = {}
    for folder in folders:
        name, _, value = folder.partition("=")
        read = {_decoded(name, place): None if value == _NULL else _decoded(value, place)}
        _refuse_differing(values, read, place)
        values |= read
    return values


def _decoded(text: str, place: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InputError(
            f"The folder of {place} has {text!r} in its name, which is not valid UTF-8. Rename it."
        ) from None


def _refuse_differing(first: Partitions, second: Partitions, place: str) -> None:
    for name in first.keys() & second.keys():
        if first[name] != second[name]:
            raise InputError(
                f"{place} lies in two folders that say {name!r}: {first[name]!r} and {second[name]!r}. Rename one."
            )


def _bounds(groups: Groups, schema: pa.Schema, name: str) -> list[Any]:
    """Least and greatest value of the row groups whose footer tells them in full."""
    [leaf] = [leaf for leaf, *_ in leaf_columns(schema, {name: None})] if _is_plain(schema.field(name).type) else [None]
    if leaf is None:
        return []
    statistics = [group.column(leaf).statistics for group in groups]
    values = [value for one in statistics if one is not None and one.has_min_max for value in (one.min, one.max)]
    return [value for value in values if len(str(value)) < _LONGEST_STATISTIC]


def _is_plain(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_large_string(data_type) or types.is_integer(data_type) or types.is_date(data_type))


def _is_same(value: Any, partition: str | None) -> bool:
    """`7` is the partition `07`: which of them a writer chose does not matter."""
    if partition is not None and isinstance(value, int):
        return re.fullmatch(r"[+-]?\d{1,40}", partition, re.ASCII) is not None and int(partition) == value
    return partition is not None and str(value) == partition


def _shown(value: Any) -> str:
    return repr(value if isinstance(value, int) else str(value))
