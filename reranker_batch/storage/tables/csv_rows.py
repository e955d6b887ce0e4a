"""CSV files: values in quotes may hold commas, doubled quotes and newlines."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.storage.tables.columns import TextColumns, table_of, text_columns
from reranker_batch.storage.tables.json_columns import texts
from reranker_batch.storage.tables.lines import BLOCK_BYTES, MAX_LINE_BYTES, Lines

_RETURN = "\udc0d"
"""For a carriage return inside a line, which `csv` takes for the end of one. Decoding gives no such character."""

Row = tuple[int, list[str]]


def csv_batches(lines: Lines, wanted: Collection[str] | None) -> Iterator[tuple[pa.Table, LongArray]]:
    """The rows of a file, all columns as text, and the number of the line in which each begins.

    Raises:
        InputError: A row has another number of columns than the first one, or a quote is not closed.
    """
    columns: TextColumns | None = None
    for batch in _batched(_rows(lines)):
        if columns is None:
            columns = text_columns(lines, [_restored(name) for name in batch[0][1]])
            batch = batch[1:] if lines.files.has_header else batch
        for number, values in batch:
            columns.check(number, len(values))
        if batch:
            yield _table(batch, columns, wanted), np.asarray([number for number, _ in batch], dtype=np.int64)


def _table(batch: list[Row], columns: TextColumns, wanted: Collection[str] | None) -> pa.Table:
    arrays = {}
    for at, name in columns.kept(wanted):
        arrays[name] = texts([_restored(row[at]) for _, row in batch])
    return table_of(arrays, len(batch))


def _restored(value: str) -> str:
    return value.replace(_RETURN, "\r") if _RETURN in value else value


def _batched(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Rows of about `BLOCK_BYTES` characters."""
    batch: list[Row] = []
    size = 0
    for number, values in rows:
        batch.append((number, values))
        size += sum(map(len, values)) + len(values)
        if size > BLOCK_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _rows(lines: Lines) -> Iterator[Row]:
    """Rows that are not empty, each with the number of its first line."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    reader = csv.reader(_texts(lines), strict=True)
    number = 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise _not_csv(lines, number, reader.line_num, error) from None
        if values is None:
            return
        if values:
            yield number, values
        number = reader.line_num


def _texts(lines: Lines) -> Iterator[str]:
    for _, block in lines.blocks():
        for line in block.removesuffix(b"\n").split(b"\n"):
            text = line.decode(errors="surrogateescape")
            yield text.removesuffix("\r").replace("\r", _RETURN) + text[len(text.removesuffix("\r")) :] + "\n"


def _not_csv(lines: Lines, number: int, line_num: int, error: csv.Error) -> InputError:
    what = str(error)
    if "end of data" in what or "field limit" in what:
        what = "a quote that begins there is not closed"
    until = f" (seen up to line {line_num})" if line_num > number + 1 else ""
    return InputError(
        f"{lines.place(number)} is not CSV: {what}{until}. If quotes are text in this file, it is TSV or has to be "
        "written again."
    )
