"""Rows of JSON files as tables, and where the values stand that fit into none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.json_columns import MixedColumnError, Path, json_table
from reranker_batch.storage.tables.json_values import KINDS
from reranker_batch.storage.tables.lines import Lines


def json_row(row: Any, lines: Lines, number: int, wanted: Collection[str] | None) -> dict[str, Any]:
    """The wanted columns of a row, also those that the folders of its file stand for.

    Raises:
        InputError: It is no object.
    """
    if not isinstance(row, dict):
        kind = KINDS.get(type(row), "a number")
        raise InputError(f"{lines.place(number)}: a row is a JSON object, and {kind} stands there. Write objects.")
    if lines.partitions:
        row |= {name: value for name, value in lines.partitions.items() if name not in row}
    return row if wanted is None else {name: value for name, value in row.items() if name in wanted}


def rows_table(lines: Lines, rows: Sequence[dict[str, Any]], numbers: Sequence[int], ids: Collection[str]) -> pa.Table:
    """The rows, which stand in the lines `numbers`, as columns.

    Raises:
        InputError: Values of a column do not fit each other. Names the lines.
    """
    try:
        return json_table(rows, ids)
    except MixedColumnError as error:
        seen = sorted((_first(rows, numbers, error.path, is_it), what) for what, is_it in error.examples)
        before = lines.lines_before()
        shown = " and ".join(f"{what} in line {before + number + 1}" for number, what in seen)
        name = ".".join(part for part in error.path if part != "[]")
        whose = f"Column {name!r}" if name else "A row"
        where = f": {shown}" if shown else ""
        raise InputError(f"{whose} of {lines.file} {error.problem}{where}. {error.remedy}") from None


def _first(rows: Sequence[dict[str, Any]], numbers: Sequence[int], path: Path, is_it: Callable[[Any], bool]) -> int:
    """The line of the first row that has such a value at the path."""
    return next(
        number for row, number in zip(rows, numbers, strict=True) if any(is_it(value) for value in _values(row, path))
    )


def _values(value: Any, path: Path) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "[]":
        for item in value or ():
            yield from _values(item, path[1:])
    elif value:
        yield from _values(value.get(path[0]), path[1:])
