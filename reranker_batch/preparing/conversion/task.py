"""One task of a conversion: rows of a piece to parts of prepared input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import CommitError, InputError
from reranker_batch.preparing.table.adapter import RowPlaces, adapt
from reranker_batch.preparing.table.adaption import Adaption
from reranker_batch.preparing.table.source import Source
from reranker_batch.schema import canonical_type
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.origin import Origin
from reranker_batch.storage.input.promotion import common_type
from reranker_batch.storage.input.query_runs import begins_query
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.prepared import publish_table
from reranker_batch.storage.tables.lines import Lines
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.reading import RawRows, read_piece
from reranker_batch.storage.values import conform

PART_BYTES = 64 << 20
"""Unpacked rows of a part, which a task has in memory."""
_GROUP_BYTES = 4 << 20
_GROUP_ROWS = 8_192
STAGING = "_staging"


@dataclass(frozen=True)
class Share:
    """A piece of a source that has its file alone, so that a task is small however many files there are."""

    source: Source
    piece: Piece
    first_row: int = 0
    """The row or line of the file at which the piece begins, as far as ids are made of it."""


@dataclass(frozen=True)
class Task:
    """What one task converts, in this order."""

    number: int
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class ConvertedPart:
    """A file of prepared input."""

    name: str
    num_rows: int


@dataclass(frozen=True)
class CountLines:
    """The number of lines that begin in a piece."""

    def __call__(self, share: Share) -> int:
        """Raises InputError when the file cannot be read."""
        return sum(block.count(b"\n") for _, block in Lines(share.source.files, share.piece).blocks())


@dataclass(frozen=True)
class Convert:
    """Converts the rows of a task; the same rows give the same bytes."""

    adaption: Adaption
    goal: Folder

    def __call__(self, task: Task) -> list[ConvertedPart]:
        """Publish the parts of a task.

        Raises:
            InputError: A row cannot be read or adapted. Names file and row.
            CommitError: A part cannot be written.
        """
        file = task.shares[0].source.files.files[0].path if self.adaption.layout == "pairs" else None
        return publish_rows(self.goal, task.number, self._rows(task), self.adaption, file)

    def _rows(self, task: Task) -> Iterator[pa.Table]:
        """The prepared rows, some MiB at a time."""
        for share in task.shares:
            for raw in read_piece(share.source.files, share.piece, share.source.wanted, self.adaption.ids):
                yield adapted(raw, share.source, share.first_row)


def adapted(raw: RawRows, source: Source, first_row: int = 0) -> pa.Table:
    """The prepared rows of raw ones, whose piece begins at a row of its file.

    Raises:
        InputError: A column is not of the kind that it has to be. Names file, column and row.
    """
    try:
        if source.watch is not None:
            source.watch.check(raw.table.schema)
        return adapt(raw.table, source.adaption, RowPlaces(raw.file, raw.numbers + first_row))
    except InputError as error:
        raise InputError(f"{error} This is so from {raw.place(0)} on.") from None


def publish_rows(
    goal: Folder, number: int, tables: Iterator[pa.Table], adaption: Adaption, file: str | None = None
) -> list[ConvertedPart]:
    """Write prepared rows as the parts of the task with this number. `file` is the one that all came from.

    Raises:
        CommitError: A part cannot be written.
    """
    parts: list[ConvertedPart] = []
    for table in parts_of(tables, adaption):
        name = f"part-{number:06d}-{len(parts):06d}.parquet"
        metadata = {} if file is None else Origin(file, sum(part.num_rows for part in parts)).metadata()
        staging = goal.folder(STAGING)
        rows = publish_table(goal, staging, name, table.schema, _groups(table), kind=b"rows", metadata=metadata)
        reached("conversion_part_published")
        parts.append(ConvertedPart(name, rows))
    return parts


def drop_staging(goal: Folder) -> None:
    """Delete what attempts to write parts have left. Raises CommitError when it cannot be deleted."""

    def drop() -> None:
        with suppress(FileNotFoundError):
            goal.filesystem.delete_dir(goal.child(STAGING))

    try:
        retried(drop, f"Using {goal.uri}")
    except OSError as error:
        raise CommitError(f"{goal.uri} cannot be written: {error}") from error


def parts_of(tables: Iterator[pa.Table], adaption: Adaption) -> Iterator[pa.Table]:
    """Rows joined to parts of about `PART_BYTES`, at least one; no part ends inside a query of the pairs layout."""
    gathered: list[pa.Table] = []
    is_first = True
    for table in tables:
        if gathered and unified_schema([*gathered, table]) is None:
            yield joined_rows(gathered)
            gathered, is_first = [], False
        gathered.append(table)
        if sum(each.nbytes for each in gathered) >= PART_BYTES:
            whole = joined_rows(gathered)
            cut = _last_begin(whole) if adaption.layout == "pairs" else len(whole)
            gathered = [whole.slice(cut)] if cut < len(whole) else []
            if cut:
                yield whole.slice(0, cut)
                is_first = False
    if gathered:
        yield joined_rows(gathered)
    elif is_first:
        yield adapt(_no_rows(adaption), adaption, RowPlaces("", np.empty(0, dtype=np.int64)))


def _no_rows(adaption: Adaption) -> pa.Table:
    return pa.table({name: pa.nulls(0) for name in adaption.wanted})


def _last_begin(table: pa.Table) -> int:
    """The row at which the last query begins."""
    ids = table["query_id"].combine_chunks() if "query_id" in table.column_names else None
    starts: LongArray = np.flatnonzero(begins_query(ids, table["query"].combine_chunks()))
    return int(starts[-1])


def unified_schema(tables: Sequence[pa.Table]) -> pa.Schema | None:
    """The types that stand for those of all tables, None where there are none."""
    types: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            both = common_type(types.get(field.name, pa.null()), canonical_type(field.type))
            if both is None:
                return None
            types[field.name] = both
    return pa.schema(list(types.items()))


def joined_rows(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables whose columns have types in common, one after the other."""
    schema = unified_schema(tables)
    assert schema is not None
    columns = {
        field.name: pa.concat_arrays([conform(each[field.name].combine_chunks(), field.type) for each in tables])
        for field in schema
    }
    return pa.table(columns, schema=schema)


def _groups(table: pa.Table) -> Iterator[pa.Table]:
    """Row groups so small that a unit reads little more than its rows."""
    rows = max(1, min(_GROUP_ROWS, len(table) * _GROUP_BYTES // max(table.nbytes, 1)))
    for start in range(0, max(len(table), 1), rows):
        yield table.slice(start, rows)
