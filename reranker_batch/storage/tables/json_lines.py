"""Files with a JSON object a line."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.storage.tables.json_rows import json_row, rows_table
from reranker_batch.storage.tables.json_values import DECODER, shown_error
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
            yield rows_table(lines, rows, numbers, ids), np.asarray(numbers, dtype=np.int64)


def _row(lines: Lines, number: int, line: bytes, wanted: Collection[str] | None) -> dict[str, Any]:
    try:
        row = DECODER.decode(line.decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{lines.place(number)} is not JSON: {shown_error(error)}. Check the file's form.") from None
    return json_row(row, lines, number, wanted)
