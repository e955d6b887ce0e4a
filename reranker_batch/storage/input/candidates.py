"""A unit's rows as queries and candidates, computed on whole columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import WorkUnit
from reranker_batch.storage.input.origin import PLACE_COLUMN
from reranker_batch.storage.values import conform, id_strings, invalid_positions

CauseArray = npt.NDArray[np.int8]


class Cause(IntEnum):
    """Why a candidate cannot be scored. If several causes apply, the lowest is reported."""

    NONE = 0
    UNEQUAL_LISTS = 1
    NULL_QUERY = 2
    INVALID_QUERY = 3
    TEXT_DIFFERS = 4
    NULL_DOCUMENT = 5
    INVALID_DOCUMENT = 6
    MISSING_QUERY = 7
    MISSING_DOCUMENT = 8


@dataclass(frozen=True)
class UnitCandidates:
    """All candidates of a unit, good and bad, in input order.

    `queries` has `row`, `query_id`, `query` and passthrough columns, `candidates` has `query_at`, `row`, `index`,
    `doc_id`, `document` and passthrough columns. `cause[i]` says why candidate `i` cannot be scored. A row with
    lists of unequal length that has no text at all stands there as one candidate with a null `index`.
    """

    queries: pa.Table
    candidates: pa.Table
    cause: CauseArray
    details: Sequence[str]
    """Further details for the message, one for each row of the unit; empty if there are none."""


@dataclass(frozen=True)
class UnitTable:
    """The rows of a unit, each column one chunk of a canonical type."""

    table: pa.Table
    unit: WorkUnit

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def numbers(self) -> LongArray:
        """Rows of the unit."""
        return np.arange(len(self), dtype=np.int64)

    def places(self, rows: LongArray) -> list[pa.Array]:
        """The first parts of a derived id: file, `#` and row."""
        if (places := self.column(PLACE_COLUMN)) is not None:
            return [places.take(pa.array(rows))]
        spans, numbers = self.unit.places_of(rows)
        files = pa.array([f"{span.file}#" for span in self.unit.spans], pa.large_string())
        return [files.take(pa.array(spans)), _number_strings(numbers)]

    def source_rows(self, rows: LongArray) -> list[str]:
        """The row of each in its file, or in the one that it came from."""
        whole: list[str] = pc.binary_join_element_wise(*self.places(rows), _large("")).to_pylist()
        return [place.rpartition("#")[2] for place in whole]

    def column(self, name: str | None) -> pa.Array | None:
        if name is None or name not in self.table.column_names:
            return None
        column = self.table.column(name)
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def texts(self, name: str) -> pa.Array:
        column = self.column(name)
        return pa.nulls(len(self), pa.large_string()) if column is None else conform(column, pa.large_string())

    def ids(self, name: str | None) -> pa.Array | None:
        column = self.column(name)
        return None if column is None else id_strings(column)

    def passthrough(self, fields: Iterable[pa.Field]) -> dict[str, pa.Array]:
        columns = {field.name: self.column(field.name) for field in fields}
        return {field.name: conform_or_null(columns[field.name], field, len(self)) for field in fields}


def candidate_table(
    rows: UnitTable,
    queries: LongArray,
    row: LongArray,
    index: LongArray,
    ids: pa.Array | None,
    documents: pa.Array,
    passthrough: Mapping[str, pa.Array],
    cause: CauseArray,
) -> pa.Table:
    """The candidates of `UnitCandidates`; what keeps one from being scored is added to `cause`."""
    for invalid in [invalid_texts(documents), invalid_texts(ids), *map(invalid_texts, passthrough.values())]:
        mark(cause, invalid & (cause == Cause.NONE), Cause.INVALID_DOCUMENT)
    is_null = documents.is_null().to_numpy(zero_copy_only=False)
    mark(cause, is_null & np.isin(cause, (Cause.NONE, Cause.INVALID_DOCUMENT)), Cause.NULL_DOCUMENT)
    return pa.table(
        {
            "query_at": pa.array(queries),
            "row": pa.array(row),
            "index": pa.array(index.astype(np.int32)),
            "doc_id": _doc_ids(ids, rows, row, index),
            "document": documents,
            **passthrough,
        }
    )


def mark(cause: CauseArray, where: BoolArray, value: Cause) -> None:
    """Set the cause of some candidates; a later call overwrites an earlier one."""
    cause[where] = value


def invalid_texts(values: pa.Array | None) -> BoolArray:
    """Which values are not valid UTF-8."""
    if values is None:
        return np.zeros((), dtype=np.bool_)
    is_invalid = np.zeros(len(values), dtype=np.bool_)
    is_invalid[invalid_positions(values)] = True
    return is_invalid


def without(values: pa.Array, where: BoolArray) -> pa.Array:
    """The values, with null at the positions of `where`."""
    return values if not where.any() else pc.if_else(pa.array(~where), values, pa.scalar(None, values.type))


def conform_or_null(values: pa.Array | None, field: pa.Field, length: int) -> pa.Array:
    """The values in the type of the field; nulls where there are none."""
    return pa.nulls(length, field.type) if values is None else conform(values, field.type)


def query_ids(ids: pa.Array | None, rows: UnitTable, row: LongArray) -> pa.Array:
    """Ids of the queries that begin at these rows."""
    return _or_derived(ids, lambda: rows.places(row))


def _doc_ids(ids: pa.Array | None, rows: UnitTable, row: LongArray, index: LongArray) -> pa.Array:
    return _or_derived(ids, lambda: [*rows.places(row), _large("/"), _number_strings(index)])


def _or_derived(ids: pa.Array | None, parts: Callable[[], list[Any]]) -> pa.Array:
    """The ids of the input; a missing or invalid one is replaced by an id derived from the place."""
    if ids is not None:
        ids = without(ids, invalid_texts(ids))
        if not ids.null_count:
            return ids
    derived = pc.binary_join_element_wise(*parts(), _large(""))
    return derived if ids is None else pc.coalesce(ids, derived)


def _large(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _number_strings(values: LongArray) -> pa.Array:
    return pa.array(values).cast(pa.large_string())
