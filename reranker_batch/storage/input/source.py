"""Read the units of an input: only the needed columns and row groups, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.config import Reading
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import Span, WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.schema import canonical_type
from reranker_batch.storage.files.filesystem import join, resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.candidates import UnitCandidates, UnitTable
from reranker_batch.storage.input.columns import InputColumns, Wanted, leaf_columns
from reranker_batch.storage.input.footers import OpenedParquet, open_parquet
from reranker_batch.storage.input.hints import original_type
from reranker_batch.storage.input.int96 import refuse_finer_digits
from reranker_batch.storage.input.layout import InputLayout, layout_of
from reranker_batch.storage.input.origin import PLACE_COLUMN, Origin
from reranker_batch.storage.input.partitions import Partitions, constant_column, constants_of
from reranker_batch.storage.input.unit_rows import unit_candidates, unit_rows
from reranker_batch.storage.input.unit_schema import joined_tables
from reranker_batch.storage.values import one_chunk

_BATCH_PAIRS = 512
_READ_THREADS = 8
"""For units of many small files, where opening takes longer than reading."""
MAX_UNIT_BYTES = 4 << 30
"""Limit for the unpacked rows of a unit. A few kilobytes of a file can hold any number of repeated texts."""


@dataclass(frozen=True)
class SourceRows:
    """The rows of a unit with all columns, and their candidates: the material of dead letters."""

    table: pa.Table
    candidates: UnitCandidates
    lists: frozenset[str]
    """The columns that hold a list with an element for each candidate."""
    is_row_a_query: bool


@dataclass(frozen=True)
class InputSource:
    """The input of a run, for any process that reads its units. Small, and holds no open file."""

    root: str
    reading: Reading
    columns: InputColumns
    has_partitions: bool = True
    """Whether names of folders are columns."""

    @property
    def layout(self) -> InputLayout:
        return layout_of(self.reading)

    def read(self, unit: WorkUnit, *, max_bytes: int = MAX_UNIT_BYTES) -> UnitRows:
        """Read the queries and candidates of a unit. Memory is bounded by the unit and `max_bytes`.

        Raises:
            InputError: A file cannot be read, is not the one that the plan was made from, or the rows unpack to more
                than that.
        """
        rows = _read_rows(self, unit, self.layout.wanted(self.columns), max_bytes)
        return unit_rows(rows, self.layout, self.columns, unit)

    def read_queries(self, unit: WorkUnit) -> pa.Array:
        """Read the query texts of a unit alone, each once, whether or not its rows can be scored.

        Raises:
            InputError: As `read`.
        """
        name = self.layout.names.query
        table = _read_rows(self, unit, {name: None}, MAX_UNIT_BYTES)
        texts = UnitTable(table, unit).texts(name)
        return texts.unique().drop_null()

    def read_whole(self, unit: WorkUnit) -> SourceRows:
        """Read a unit with all columns, for dead letters.

        Raises:
            InputError: As `read`.
        """
        table = _read_rows(self, unit, None, MAX_UNIT_BYTES)
        candidates = unit_candidates(table, self.layout, self.columns, unit)
        lists = frozenset(self.layout.lists(self.columns.shape))
        own = table.select([name for name in table.column_names if name != PLACE_COLUMN])
        return SourceRows(own, candidates, lists, self.layout.is_row_a_query)


def _read_rows(source: InputSource, unit: WorkUnit, wanted: Wanted | None, max_bytes: int) -> pa.Table:
    """The unit's rows, one chunk a column, in canonical types; 64-bit offsets, so that joining never overflows."""
    reading = _Reading(source, unit, wanted, max_bytes)
    if len(unit.spans) == 1:
        return reading.span_rows(unit.spans[0])
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        return joined_tables(list(pool.map(reading.span_rows, unit.spans)))


@dataclass(frozen=True)
class _Reading:
    """One reading of a unit, whose spans may be read at the same time."""

    source: InputSource
    unit: WorkUnit
    wanted: Wanted | None
    max_bytes: int
    bytes_of: dict[int, int] = field(default_factory=dict)
    """By file."""

    def span_rows(self, span: Span) -> pa.Table:
        return retried(lambda: self._rows(span), f"Reading {span.file}")

    def _rows(self, span: Span) -> pa.Table:
        filesystem, folder = resolve(self.source.root)
        with open_parquet(filesystem, join(folder, span.file), span.identity) as opened:
            schema = opened.footer.schema
            names = [name for name in schema.names if self.wanted is None or name in self.wanted]
            batches = list(self._bounded(_exact_batches(opened, span, self._batch_rows, self.wanted), span))
            num_rows = sum(batch.num_rows for batch in batches)
            if num_rows != span.num_rows:
                raise InputError(
                    f"{span.file} ends at row {span.row_start + num_rows}, but unit {self.unit.unit_id} goes to row "
                    f"{span.row_stop}: the plan is not that of this file.",
                    unit_id=self.unit.unit_id,
                )
            constants: Partitions = {}
            if self.source.has_partitions:
                constants = constants_of(folder, span.file, self.source.layout.own_names(schema))
            columns = {name: _joined(batches, name, schema.field(name).type) for name in names}
            origin = Origin.of(opened.parquet.metadata.metadata)
            places = {} if origin is None else {PLACE_COLUMN: origin.places(span.row_start, num_rows)}
            return pa.table(columns | self._constant_columns(constants, num_rows) | places)

    def _constant_columns(self, constants: Partitions, num_rows: int) -> dict[str, pa.Array]:
        wanted = constants if self.wanted is None else constants.keys() & self.wanted.keys()
        return {name: constant_column(constants[name], num_rows) for name in constants if name in wanted}

    @property
    def _batch_rows(self) -> int:
        """Rows that have about `_BATCH_PAIRS` pairs."""
        return min(_BATCH_PAIRS, max(1, _BATCH_PAIRS * self.unit.num_rows // max(1, self.unit.num_pairs)))

    def _bounded(self, batches: Iterable[pa.RecordBatch], span: Span) -> Iterator[pa.RecordBatch]:
        num_rows = self.bytes_of[span.file_index] = 0
        for batch in batches:
            self.bytes_of[span.file_index] += batch.nbytes
            num_rows += batch.num_rows
            if sum([*self.bytes_of.values()]) > self.max_bytes:
                others = f" with the other {len(self.unit.spans) - 1:,} files" if len(self.unit.spans) > 1 else ""
                raise InputError(
                    f"{span.file} unpacks to more than {self.max_bytes >> 20:,} MiB in the {num_rows:,} rows from row "
                    f"{span.row_start}{others}. Lower runtime.unit_pairs, with a new output.path, or leave the file "
                    "out.",
                    unit_id=self.unit.unit_id,
                )
            yield batch


def _joined(batches: list[pa.RecordBatch], name: str, data_type: pa.DataType) -> pa.Array:
    """A column in canonical types; `data_type` knows more of them than the batches, and may have more fields."""
    chunks = [batch.column(batch.schema.get_field_index(name)) for batch in batches]
    seen = original_type(chunks[0].type, data_type) if chunks else data_type
    return one_chunk(chunks, canonical_type(seen))


def canonical_batches(opened: OpenedParquet, span: Span, batch_rows: int, wanted: Wanted | None) -> Iterator[pa.Table]:
    """The rows of a span, at most `batch_rows` at a time, in canonical types, a chunk a column.

    Raises:
        InputError: A wanted timestamp would lose digits. Names file and column.
    """
    schema = opened.footer.schema
    names = [name for name in schema.names if wanted is None or name in wanted]
    for batch in _exact_batches(opened, span, batch_rows, wanted):
        yield pa.table({name: _joined([batch], name, schema.field(name).type) for name in names})


def _exact_batches(
    opened: OpenedParquet, span: Span, batch_rows: int, wanted: Wanted | None
) -> Iterator[pa.RecordBatch]:
    """The wanted columns of the rows, all if None. A wanted timestamp that would lose digits is refused."""
    parquet = opened.parquet
    if wanted is None:
        return _batches(parquet, span, batch_rows, None)
    known = _or_all_fields(parquet.schema_arrow, wanted)
    leaves = [(name, parquet.schema.column(leaf)) for leaf, name, _ in leaf_columns(parquet.schema_arrow, known)]
    batches = _batches(parquet, span, batch_rows, [leaf.path for _, leaf in leaves])
    int96 = {name for name, leaf in leaves if leaf.physical_type == "INT96"}
    if not int96:
        return batches
    paths = [leaf.path for name, leaf in leaves if name in int96]
    return refuse_finer_digits(batches, _batches(opened.in_nanoseconds(), span, batch_rows, paths), span.file)


def _or_all_fields(schema: pa.Schema, wanted: Wanted) -> dict[str, set[str] | None]:
    """A struct without any wanted field is read whole: its list still tells the number of candidates."""
    present = {(column, field) for _, column, field in leaf_columns(schema, wanted)}
    return {name: fields if any(column == name for column, _ in present) else None for name, fields in wanted.items()}


def _batches(parquet: pq.ParquetFile, span: Span, batch_rows: int, paths: list[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows of the span and no others."""
    starts = np.cumsum([0, *(parquet.metadata.row_group(n).num_rows for n in range(parquet.metadata.num_row_groups))])
    groups = [n for n, start in enumerate(starts[:-1]) if start < span.row_stop and starts[n + 1] > span.row_start]
    if not groups:
        return
    row = int(starts[groups[0]])
    for batch in parquet.iter_batches(batch_size=batch_rows, row_groups=groups, columns=paths, use_threads=False):
        kept = batch.slice(max(0, span.row_start - row), max(0, span.row_stop - max(row, span.row_start)))
        row += batch.num_rows
        if kept.num_rows:
            yield kept
        if row >= span.row_stop:
            return
