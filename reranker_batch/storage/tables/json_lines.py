"""Files with a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.storage.tables.json_columns import MixedColumnError, json_table
from reranker_batch.storage.tables.lines import Lines

Batch = tuple[pa.Table, LongArray]
_BLANKS = b" \t\r"


def json_line_batches(lines: Lines, wanted: Collection[str] | None, ids: Collection[str]) -> Iterator[Batch]:
    """The rows of each block of lines, and the number of each row's line in the piece.

    Raises:
        InputError: A line is no JSON object, or values do not fit each other.
    """
    for first, block in lines.blocks():
        numbers, rows = [], []
        for number, line in enumerate(block.split(b"\n"), start=first):
            if line.strip(_BLANKS):
                rows.append(_row(lines, number, line, wanted))
                numbers.append(number)
        if rows:
            yield _table(lines, rows, numbers, ids), np.asarray(numbers, dtype=np.int64)


def _row(lines: Lines, number: int, line: bytes, wanted: Collection[str] | None) -> dict[str, Any]:
    try:
        row = parsed(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{lines.place(number)} is not JSON: {_shown(error)}. Check the file's form.") from None
    if not isinstance(row, dict):
        raise InputError(
            f"{lines.place(number)} is not a JSON object but {type(row).__name__}. Write an object a line."
        )
    return row if wanted is None else {name: value for name, value in row.items() if name in wanted}


def parsed(text: str) -> Any:
    """JSON, also with NaN and infinities as Python writes them; a key that stands twice is refused.

    Raises:
        ValueError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(items)
    if len(values) != len(items):
        seen = [name for name, _ in items]
        twice = next(name for name in seen if seen.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands twice")
    return values


def _shown(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1:,}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _table(lines: Lines, rows: list[dict[str, Any]], numbers: list[int], ids: Collection[str]) -> pa.Table:
    try:
        return json_table(rows, ids)
    except MixedColumnError as error:
        raise InputError(f"Column {'.'.join(error.path)!r} in {lines.file} {error.problem}.") from None
