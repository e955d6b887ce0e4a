"""Rerank tables in memory, in this process: polars, pandas and Arrow."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import polars as pl
import pyarrow as pa

from reranker_batch.config import InputConfig, OutputConfig, checked
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import ConfigError, InputError, RowError
from reranker_batch.pipeline import FinishedUnit, ResultSettings
from reranker_batch.reranker import Reranker, checked_top_n, memory_unit
from reranker_batch.schema import canonical_type
from reranker_batch.storage.input.layout import layout_of
from reranker_batch.storage.input.merging import merge_columns
from reranker_batch.storage.input.planning import refuse_own_names
from reranker_batch.storage.input.reading import plain_reading
from reranker_batch.storage.input.unit_rows import unit_rows
from reranker_batch.storage.values import conform_table, one_chunk

logger = logging.getLogger(__name__)
Frame = TypeVar("Frame")
_NAME = "table"
"""Name of the table in messages and derived ids."""


def rerank_table(
    frame: Frame,
    *,
    model: str | Reranker,
    query: str = "query",
    candidates: str = "candidates",
    document: str = "text",
    doc_id: str | None = "doc_id",
    query_id: str | None = "query_id",
    layout: Literal["nested", "pairs"] = "nested",
    top_n: int | None = None,
    output_layout: Literal["pairs", "nested"] = "pairs",
    passthrough: Sequence[str] = (),
    return_documents: bool = False,
    on_failed: Literal["warn", "raise"] = "warn",
) -> Frame:
    """Rerank a polars, pandas or Arrow table in memory: the rows and columns of a job's output, in the same kind.

    The names and layouts are keys of a job's `input.columns`, `input.layout` and `output.layout`. A model given by
    name is loaded for this call with `Reranker.open(model)`. Candidates that cannot be scored are left out, and a
    warning counts them by reason; with `on_failed="raise"` they are an error.

    Raises:
        ConfigError: An argument is wrong.
        InputError: A column is missing or cannot be used; the message calls the table `table`.
        ModelError: The model cannot be used.
        RowError: A candidate cannot be scored, with `on_failed="raise"`.
    """
    names = {"query_id": query_id, "query": query, "candidates": candidates, "doc_id": doc_id, "document": document}
    config = _checked_input(layout, names, passthrough)
    top_n = _checked_output(output_layout, top_n, on_failed)
    table, give_back = _to_arrow(frame)
    unit, rows = _read(table, config)
    reranker = model if isinstance(model, Reranker) else Reranker.open(model)
    settings = ResultSettings(output_layout, top_n, return_documents, reranker.backend.activation, tuple(passthrough))
    finished = reranker.rerank_unit(unit, rows, settings)
    _tell_of_failed(finished, on_failed)
    result: Frame = give_back(conform_table(finished.part, finished.schema))
    return result


def _checked_input(layout: str, names: dict[str, str | None], passthrough: Sequence[str]) -> InputConfig:
    more = passthrough if isinstance(passthrough, str) else list(passthrough)
    asked = {"path": _NAME, "layout": layout, "columns": {**names, "passthrough": more}}
    return checked(InputConfig, asked, "The columns of the table are wrong")


def _checked_output(layout: str, top_n: int | None, on_failed: str) -> int | None:
    """`top_n` as a plain number."""
    checked(OutputConfig, {"path": _NAME, "layout": layout}, "output_layout is wrong")
    if on_failed not in ("warn", "raise"):
        raise ConfigError(f"on_failed={on_failed!r} is neither 'warn' nor 'raise'.")
    return checked_top_n(top_n)


def _to_arrow(frame: Any) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    """The table in Arrow, and a function back to the caller's type."""
    if isinstance(frame, pa.Table):
        return frame, lambda table: table
    if isinstance(frame, pl.DataFrame):
        return frame.to_arrow(), pl.from_arrow
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return _from_pandas(frame), pa.Table.to_pandas
    hint = " Call .collect() first." if isinstance(frame, pl.LazyFrame) else ""
    raise ConfigError(f"{type(frame).__name__} is no table: a polars, pandas or Arrow table is expected.{hint}")


def _from_pandas(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"The pandas table cannot be read as Arrow: {error}. Give each column a name of its own and values of one "
            "type."
        ) from None


def _read(table: pa.Table, config: InputConfig) -> tuple[WorkUnit, UnitRows]:
    """As planning and reading do it for a file."""
    reading = plain_reading(config)
    refuse_own_names(reading.columns)
    layout = layout_of(reading)
    columns = merge_columns([(_NAME, layout.inspect(table.schema, _NAME))], reading.columns.passthrough)
    canonical = _canonical(table, set(layout.wanted(columns)))
    layout.refuse_returning(canonical, _NAME)
    unit = memory_unit(_NAME, len(table))
    return unit, unit_rows(canonical, layout, columns, unit)


def _canonical(table: pa.Table, used: set[str]) -> pa.Table:
    kept = [name for name in table.column_names if name in used]
    try:
        return pa.table(
            {name: one_chunk(table[name].chunks, canonical_type(table.schema.field(name).type)) for name in kept}
        )
    except pa.ArrowException as error:
        raise InputError(f"The table cannot be read: {error}.") from None


def _tell_of_failed(finished: FinishedUnit, on_failed: str) -> None:
    if not len(finished.dead_letters):
        return
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(finished.counts.dead_letters.items()))
    first = finished.dead_letters.slice(0, 1).to_pylist()[0]
    message = f"Not scored: {counts}. The first is at row {first['row']} of the table: {first['message']}"
    if on_failed == "raise":
        raise RowError(message, reason_code=first["reason_code"])
    logger.warning("%s The result is without them.", message)
