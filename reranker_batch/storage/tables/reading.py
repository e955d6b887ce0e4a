"""Read the rows of a table, piece by piece, whatever the form of its files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.storage.input.partitions import Partitions, constant_column
from reranker_batch.storage.input.promotion import common_type
from reranker_batch.storage.tables.csv_rows import csv_batches
from reranker_batch.storage.tables.json_document import json_document_batches
from reranker_batch.storage.tables.json_lines import json_line_batches
from reranker_batch.storage.tables.lines import Lines
from reranker_batch.storage.tables.parquet_rows import parquet_batches
from reranker_batch.storage.tables.pieces import Piece, footer_of, pieces
from reranker_batch.storage.tables.separated import separated_batches
from reranker_batch.storage.tables.table_files import TableFiles

_SAMPLED_FILES = 8
_SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class RawRows:
    """Some rows of a table: its wanted columns in canonical types, and where each row stands."""

    table: pa.Table
    numbers: LongArray
    """Row, or line, of each row within the piece."""
    lines: Lines

    @property
    def file(self) -> str:
        return self.lines.file

    def place(self, row: int) -> str:
        """File and line, or row, of a row of `table`, for a message. May read what precedes it in the file."""
        number = int(self.numbers[row])
        if self.lines.files.form == "parquet":
            return f"{self.file}, row {self.lines.piece.start + number}"
        return self.lines.place(number)


def read_piece(
    files: TableFiles, piece: Piece, wanted: Collection[str] | None = None, ids: Collection[str] = ()
) -> Iterator[RawRows]:
    """The rows of a piece in their order, in tables of some MiB, with the top-level columns `wanted`, all if None.

    A column that is not in the file, or in none of these rows, is not in the table, so that tables may differ in their
    columns. Columns of CSV, TSV and TREC files are text; those of files without a header are called `0`, `1`, …
    Folders such as `day=1` give a column of text where the file has none of that name.
    Values at the dotted paths `ids`, through lists where there are any, become strings. Invalid UTF-8 stays.

    Raises:
        InputError: The file cannot be read, has changed since it was listed, or has a row that is not of its form or
            does not fit the others. Names file and line.
    """
    lines = Lines(files, piece)
    types: dict[str, pa.DataType] = {}
    for read, numbers in _batches(lines, wanted, ids):
        table = _with_partitions(read, lines.partitions, wanted)
        for field in table.schema:
            types[field.name] = _fitting(lines, field, types.get(field.name, pa.null()), int(numbers[0]))
        yield RawRows(table, numbers, lines)


def _with_partitions(table: pa.Table, partitions: Partitions, wanted: Collection[str] | None) -> pa.Table:
    for name, value in partitions.items():
        if name not in table.column_names and (wanted is None or name in wanted):
            table = table.append_column(name, constant_column(value, len(table)))
    return table


def _fitting(lines: Lines, field: pa.Field, before: pa.DataType, number: int) -> pa.DataType:
    """The type of a column over all rows so far."""
    fitting = common_type(before, field.type)
    if fitting is None:
        raise InputError(
            f"Column {field.name!r} of {lines.file} has values of different types: {before} before "
            f"{lines.place(number)}, and {field.type} in the lines from there. Write the column with one type."
        )
    return fitting


def _batches(
    lines: Lines, wanted: Collection[str] | None, ids: Collection[str]
) -> Iterator[tuple[pa.Table, LongArray]]:
    form = lines.files.form
    if form == "parquet":
        return parquet_batches(lines.files, lines.piece, wanted, ids)
    if form == "jsonl":
        return json_line_batches(lines, wanted, ids)
    if form in ("tsv", "trec"):
        return separated_batches(lines, wanted, is_tsv=form == "tsv")
    return csv_batches(lines, wanted) if form == "csv" else json_document_batches(lines, wanted, ids)


def columns_seen(files: TableFiles, ids: Collection[str] = ()) -> pa.Schema:
    """The columns of a sample of the rows, in canonical types; those at the dotted paths `ids` as text.

    Raises:
        InputError: As `read_piece`.
    """
    types: dict[str, pa.DataType] = {}
    for index in range(min(len(files.files), _SAMPLED_FILES)):
        for field in _sampled(files, index, ids):
            types[field.name] = common_type(types.get(field.name, pa.null()), field.type) or pa.large_string()
    return pa.schema(list(types.items()))


def _sampled(files: TableFiles, index: int, ids: Collection[str]) -> pa.Schema:
    if files.form == "parquet":
        schema = footer_of(files, index).schema
        return _with_partitions(schema.empty_table(), files.partitions(index), None).schema
    one = replace(files, files=(files.files[index],))
    first = next(iter(pieces(one, _SAMPLED_BYTES)))
    rows = next(read_piece(one, first, None, ids), None)
    return pa.schema([]) if rows is None else rows.table.schema
