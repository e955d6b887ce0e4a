"""Read one work unit: the columns that are needed, the row groups that overlap, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.config import InputConfig
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.schema import canonical_type
from reranker_batch.storage.filesystem import join, resolve
from reranker_batch.storage.input.columns import InputColumns, leaf_columns
from reranker_batch.storage.input.footers import OpenedParquet, open_parquet
from reranker_batch.storage.input.hints import original_type
from reranker_batch.storage.input.int96 import refuse_finer_digits
from reranker_batch.storage.input.unit_rows import unit_rows
from reranker_batch.storage.retrying import retried
from reranker_batch.storage.values import one_chunk

_BATCH_PAIRS = 512
MAX_UNIT_BYTES = 4 << 30
"""What the rows of a unit may unpack to. A few kilobytes of a file can stand for any number of repeated texts."""


@dataclass(frozen=True)
class SourceRows:
    """Whole rows of a unit, every column of the file, as dead letters keep them."""

    table: pa.Table
    config: InputConfig


def read_unit(
    root: str, config: InputConfig, columns: InputColumns, unit: WorkUnit, *, max_bytes: int = MAX_UNIT_BYTES
) -> UnitRows:
    """Read the queries of a unit and sort out what cannot be scored. Memory is bounded by the unit and `max_bytes`.

    Raises:
        InputError: The file cannot be read, is not the one that the plan was made from, or unpacks to more than that.
    """
    rows = retried(lambda: _read_rows(root, unit, _wanted(config, columns), max_bytes), f"Reading {unit.file}")
    return unit_rows(rows, config.columns, columns, unit)


def read_source(root: str, config: InputConfig, unit: WorkUnit) -> SourceRows:
    """Read a unit with all columns. Only dead letters need that.

    Raises:
        InputError: As `read_unit`.
    """
    return SourceRows(retried(lambda: _read_rows(root, unit, None, MAX_UNIT_BYTES), f"Reading {unit.file}"), config)


def _wanted(config: InputConfig, columns: InputColumns) -> dict[str, set[str] | None]:
    """Columns, and of a list of structs the fields, that a unit is made of."""
    names = config.columns
    top = [names.query, *(field.name for field in columns.query_passthrough)]
    if names.query_id is not None:
        top.append(names.query_id)
    if names.candidates in top:  # asked for as a passthrough column, so with all its fields
        return dict.fromkeys([*top, *([] if names.doc_id is None else [names.doc_id])])
    if columns.shape == "structs":
        inner = {names.document, *(field.name for field in columns.candidate_passthrough)}
        if names.doc_id is not None:
            inner.add(names.doc_id)
        return {**dict.fromkeys(top), names.candidates: inner}
    if names.doc_id is not None and columns.shape != "texts":
        top.append(names.doc_id)
    if columns.shape == "pairs":
        return dict.fromkeys([*top, names.document, *(field.name for field in columns.candidate_passthrough)])
    return dict.fromkeys([*top, names.candidates])


def _read_rows(root: str, unit: WorkUnit, wanted: Mapping[str, set[str] | None] | None, max_bytes: int) -> pa.Table:
    """The unit's rows, one chunk a column, in canonical types; 64-bit offsets, so that joining never overflows."""
    filesystem, folder = resolve(root)
    with open_parquet(filesystem, join(folder, unit.file), unit.identity) as opened:
        schema = opened.footer.schema
        names = [name for name in schema.names if wanted is None or name in wanted]
        batches = list(_bounded(_exact_batches(opened, unit, wanted), unit, max_bytes))
        num_rows = sum(batch.num_rows for batch in batches)
        if num_rows != unit.row_stop - unit.row_start:
            raise InputError(
                f"{unit.file} ends at row {unit.row_start + num_rows}, but unit {unit.unit_id} goes to row "
                f"{unit.row_stop}: the plan is not that of this file.",
                unit_id=unit.unit_id,
            )
        return pa.table({name: _joined(batches, name, schema.field(name).type) for name in names})


def _joined(batches: list[pa.RecordBatch], name: str, data_type: pa.DataType) -> pa.Array:
    """A column in canonical types; `data_type` knows more of them than the batches, and may have more fields."""
    chunks = [batch.column(batch.schema.get_field_index(name)) for batch in batches]
    seen = original_type(chunks[0].type, data_type) if chunks else data_type
    return one_chunk(chunks, canonical_type(seen))


def _exact_batches(
    opened: OpenedParquet, unit: WorkUnit, wanted: Mapping[str, set[str] | None] | None
) -> Iterator[pa.RecordBatch]:
    """What is wanted of the unit's rows; timestamps that would lose digits are refused. None takes all as it comes."""
    parquet = opened.parquet
    if wanted is None:
        return _batches(parquet, unit, None)
    known = _or_all_fields(parquet.schema_arrow, wanted)
    leaves = [(name, parquet.schema.column(leaf)) for leaf, name, _ in leaf_columns(parquet.schema_arrow, known)]
    batches = _batches(parquet, unit, [leaf.path for _, leaf in leaves])
    int96 = {name for name, leaf in leaves if leaf.physical_type == "INT96"}
    if not int96:
        return batches
    paths = [leaf.path for name, leaf in leaves if name in int96]
    return refuse_finer_digits(batches, _batches(opened.in_nanoseconds(), unit, paths), unit.file)


def _or_all_fields(schema: pa.Schema, wanted: Mapping[str, set[str] | None]) -> dict[str, set[str] | None]:
    """A struct that has none of the fields is read whole: its list still says how many candidates there are."""
    present = {(column, field) for _, column, field in leaf_columns(schema, wanted)}
    return {name: fields if any(column == name for column, _ in present) else None for name, fields in wanted.items()}


def _batches(parquet: pq.ParquetFile, unit: WorkUnit, paths: list[str] | None) -> Iterator[pa.RecordBatch]:
    """The unit's rows and no others, in pieces of some thousand pairs."""
    starts = np.cumsum([0, *(parquet.metadata.row_group(n).num_rows for n in range(parquet.metadata.num_row_groups))])
    groups = [n for n, start in enumerate(starts[:-1]) if start < unit.row_stop and starts[n + 1] > unit.row_start]
    if not groups:
        return
    row = int(starts[groups[0]])
    num_rows = max(1, unit.row_stop - unit.row_start)
    batch_size = min(_BATCH_PAIRS, max(1, _BATCH_PAIRS * num_rows // max(1, unit.num_pairs)))
    for batch in parquet.iter_batches(batch_size=batch_size, row_groups=groups, columns=paths, use_threads=False):
        kept = batch.slice(max(0, unit.row_start - row), max(0, unit.row_stop - max(row, unit.row_start)))
        row += batch.num_rows
        if kept.num_rows:
            yield kept
        if row >= unit.row_stop:
            return


def _bounded(batches: Iterable[pa.RecordBatch], unit: WorkUnit, max_bytes: int) -> Iterator[pa.RecordBatch]:
    num_bytes = num_rows = 0
    for batch in batches:
        num_bytes += batch.nbytes
        num_rows += batch.num_rows
        if num_bytes > max_bytes:
            raise InputError(
                f"{unit.file} unpacks to more than {max_bytes >> 20:,} MiB in the {num_rows:,} rows from row "
                f"{unit.row_start}. Lower runtime.unit_pairs, with a new output.path, or leave the file out.",
                unit_id=unit.unit_id,
            )
        yield batch
