"""A table in memory, read and reranked as a job does it with a file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from reranker_batch.config import ColumnsConfig, InputConfig
from reranker_batch.config.columns import Reading, as_list
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import InputError, RowError
from reranker_batch.pipeline import FinishedUnit, ResultSettings
from reranker_batch.preparing.table.adapter import RowPlaces, adapt
from reranker_batch.preparing.table.adaption import Resolver, refuse_taken
from reranker_batch.reranker import Reranker, memory_unit
from reranker_batch.schema import canonical_type
from reranker_batch.storage.input.layout import layout_of
from reranker_batch.storage.input.merging import merge_columns
from reranker_batch.storage.input.planning import refuse_own_names
from reranker_batch.storage.input.reading import plain_reading, reading_of
from reranker_batch.storage.input.regrouping import DOC_ID, QUERY_ID, query_order, with_ids
from reranker_batch.storage.input.unit_rows import unit_rows
from reranker_batch.storage.values import one_chunk

logger = logging.getLogger(__name__)

OnFailed = Literal["warn", "raise"]
NAME = "table"
"""Name of the table in messages and derived ids."""


@dataclass(frozen=True)
class MemoryRows:
    """The rows of a table. `order` has the row of the table for each, where they were brought together by query."""

    unit: WorkUnit
    rows: UnitRows
    reading: Reading
    order: LongArray | None = None


@dataclass(frozen=True)
class TableSettings:
    """How a table in memory is reranked. Small and picklable."""

    config: InputConfig
    top_n: int | None
    output_layout: str
    return_documents: bool
    name: str = NAME
    """What the table is called in messages and in ids that are made of places."""

    def rerank(self, given: MemoryRows, reranker: Reranker) -> FinishedUnit:
        """Score and rank. Rows are counted as they stand in the table."""
        settings = ResultSettings(
            self.output_layout,  # type: ignore[arg-type]
            self.top_n,
            self.return_documents,
            reranker.backend.activation,
            tuple(given.reading.columns.passthrough),
            reranker.limits.long_documents,
        )
        finished = reranker.rerank_unit(given.unit, given.rows, settings)
        if given.order is None:
            return finished
        return replace(
            finished,
            part=_with_old_rows(finished.part, given.order),
            dead_letters=_with_old_rows(finished.dead_letters, given.order),
        )

    def read(self, table: pa.Table) -> MemoryRows:
        """As planning and reading do it for a file; rows of pairs may stand in any order.

        Raises:
            ConfigError, InputError: A column is missing or cannot be used; the message calls the table `table`.
        """
        reading, rows = self._as_read(table)
        refuse_own_names(reading.columns)
        layout = layout_of(reading)
        columns = merge_columns([(self.name, layout.inspect(rows.schema, self.name))], reading.columns.passthrough)
        used = _canonical(rows, set(layout.wanted(columns)))
        order = None if layout.is_row_a_query else query_order(used, reading.columns)
        if order is not None:
            used = with_ids(used, reading.columns, order, self.name)
            named = reading.columns.model_copy(update={"query_id": QUERY_ID, "doc_id": DOC_ID})
            reading = reading.model_copy(update={"columns": named})
            layout = layout_of(reading)
        unit = memory_unit(self.name, len(table))
        return MemoryRows(unit, unit_rows(used, layout, columns, unit), reading, order)

    def _as_read(self, table: pa.Table) -> tuple[Reading, pa.Table]:
        """The table itself, or what paths, joined texts and several lists of it come to."""
        if not _has_paths(self.config.columns, table.schema):
            return plain_reading(self.config), table
        refuse_taken(self.config.columns)
        adaption = Resolver(table.schema, self.config.columns, self.name).adaption(self.config.layout)
        rows = _canonical(table, set(adaption.wanted))
        prepared = adapt(rows, adaption, RowPlaces(self.name, np.arange(len(table), dtype=np.int64)))
        return reading_of(self.config, [(self.name, prepared.schema, "rows")]), prepared


def tell_of_failed(finished: FinishedUnit, on_failed: OnFailed) -> None:
    """Warn of candidates that were not scored, with their number by reason.

    Raises:
        RowError: There are any, with `on_failed="raise"`.
    """
    if not len(finished.dead_letters):
        return
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(finished.counts.dead_letters.items()))
    first = finished.dead_letters.slice(0, 1).to_pylist()[0]
    message = f"Not scored: {counts}. The first is at row {first['row']} of the table: {first['message']}"
    if on_failed == "raise":
        raise RowError(message, reason_code=first["reason_code"])
    logger.warning("%s The result is without them.", message)


def _has_paths(columns: ColumnsConfig, schema: pa.Schema) -> bool:
    """Whether a column is no column of the table as it is: several of them, or a path such as `query.text`."""
    if columns.plain() is None:
        return True
    named = [columns.query_id, columns.query, columns.doc_id, *columns.passthrough]
    named += [*as_list(columns.candidates), *as_list(columns.document)]
    return any("." in str(name) and name not in schema.names for name in named)


def _with_old_rows(table: pa.Table, order: LongArray) -> pa.Table:
    if "row" not in table.column_names:
        return table
    at = table.column_names.index("row")
    rows = table["row"].combine_chunks()
    return table.set_column(at, table.schema.field(at), pa.array(order).take(rows).cast(rows.type))


def _canonical(table: pa.Table, used: set[str]) -> pa.Table:
    kept = [name for name in table.column_names if name in used]
    try:
        return pa.table(
            {name: one_chunk(table[name].chunks, canonical_type(table.schema.field(name).type)) for name in kept}
        )
    except pa.ArrowException as error:
        raise InputError(f"The table cannot be read: {error}.") from None
