"""The rows of a unit as queries and candidates, in memory and without a loop over candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.config import Columns
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.storage.input.columns import InputColumns
from reranker_batch.storage.input.query_runs import begins_query
from reranker_batch.storage.values import conform, id_strings, invalid_positions, list_lengths, list_values, scrubbed

CauseArray = npt.NDArray[np.int8]


class Cause(IntEnum):
    """Why a candidate cannot be scored. Of several the lowest is named."""

    NONE = 0
    UNEQUAL_LISTS = 1
    NULL_QUERY = 2
    INVALID_QUERY = 3
    TEXT_DIFFERS = 4
    NULL_DOCUMENT = 5
    INVALID_DOCUMENT = 6


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
    """What `cause` alone does not say, one a row of the input or empty."""


def unit_candidates(rows: pa.Table, names: Columns, columns: InputColumns, unit: WorkUnit) -> UnitCandidates:
    """Take the rows of a unit apart. Each column of `rows` is one chunk of a canonical type.

    Raises:
        InputError: A value does not fit the type that its column has over all files.
    """
    try:
        return _taken_apart(_Rows(rows, unit), names, columns)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{_misfitting(rows, names, columns, unit)} have a value that does not fit the type which its column has "
            f"over all files: {error}. Write the column with one type.",
            unit_id=unit.unit_id,
        ) from None


def _misfitting(rows: pa.Table, names: Columns, columns: InputColumns, unit: WorkUnit) -> str:
    """The rows of the first file whose values do not fit."""
    for span, start in zip(unit.spans, unit.offsets.tolist(), strict=False):
        part = replace(unit, spans=(span,))
        try:
            _taken_apart(_Rows(rows.slice(start, span.num_rows), part), names, columns)
        except pa.ArrowInvalid:
            return str(span)
    return unit.shown


def _taken_apart(rows: _Rows, names: Columns, columns: InputColumns) -> UnitCandidates:
    return _from_pairs(rows, names, columns) if columns.shape == "pairs" else _from_lists(rows, names, columns)


@dataclass(frozen=True)
class _Rows:
    table: pa.Table
    unit: WorkUnit

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def numbers(self) -> LongArray:
        """Rows of the unit."""
        return np.arange(len(self), dtype=np.int64)

    def places(self, rows: LongArray) -> list[pa.Array]:
        """The first parts of an id that is made of the place: file, `#` and row."""
        spans, numbers = self.unit.places_of(rows)
        files = pa.array([f"{span.file}#" for span in self.unit.spans], pa.large_string())
        return [files.take(pa.array(spans)), _numbers(numbers)]

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

    def carried(self, fields: Iterable[pa.Field]) -> dict[str, pa.Array]:
        columns = {field.name: self.column(field.name) for field in fields}
        return {field.name: _conform_or_null(columns[field.name], field, len(self)) for field in fields}


def _from_lists(held: _Rows, names: Columns, columns: InputColumns) -> UnitCandidates:
    lists = held.column(names.candidates)
    assert lists is not None
    lengths = list_lengths(lists)
    parents, index = _places(lengths)
    inner, ids = _inner_columns(lists, names, columns)
    is_unequal = np.zeros(len(held), dtype=np.bool_)
    details: Sequence[str] = ()
    if columns.shape == "parallel_lists":
        ids, is_unequal, details = _ids_beside(held.column(names.doc_id), lengths, parents, index)
    queries, query_cause = _queries(held, names, columns)
    cause = query_cause[parents]
    _mark(cause, is_unequal[parents], Cause.UNEQUAL_LISTS)
    documents = _field(inner, names.document, pa.large_string(), len(parents))
    carried = {
        field.name: _field(inner, field.name, field.type, len(parents)) for field in columns.candidate_passthrough
    }
    candidates = _candidates(held, parents, parents, index, ids, documents, carried, cause)
    found = UnitCandidates(queries, candidates, cause, details)
    return _with_textless(found, held, np.flatnonzero(is_unequal & (lengths == 0)))


def _inner_columns(
    lists: pa.Array, names: Columns, columns: InputColumns
) -> tuple[dict[str, pa.Array], pa.Array | None]:
    """What the lists hold, one entry a candidate, by field; a list of texts is taken for the document field."""
    if pa.types.is_null(lists.type):
        return {}, None
    flat = list_values(lists)
    if not pa.types.is_struct(flat.type):
        return {names.document: flat}, None
    inner = dict(zip([field.name for field in flat.type], flat.flatten(), strict=True))
    ids = inner.get(names.doc_id) if names.doc_id is not None and columns.shape == "structs" else None
    return inner, None if ids is None else id_strings(ids)


def _ids_beside(
    lists: pa.Array | None, lengths: LongArray, parents: LongArray, index: LongArray
) -> tuple[pa.Array | None, BoolArray, Sequence[str]]:
    """Ids from a list beside the texts, which rows have other numbers of both, and what to say of each row."""
    if lists is None or pa.types.is_null(lists.type):
        return None, np.zeros(len(lengths), dtype=np.bool_), ()
    id_lengths = list_lengths(lists)
    is_null = lists.is_null().to_numpy(zero_copy_only=False)
    is_unequal = (id_lengths != lengths) & ~is_null
    flat = id_strings(list_values(lists))
    if (id_lengths == lengths).all():
        return flat, is_unequal, ()
    has_id = (id_lengths == lengths)[parents]
    places = pa.array(offsets_of(id_lengths)[parents] + index, mask=~has_id)
    details = [f"{texts} texts stand beside {ids} ids." for texts, ids in zip(lengths, id_lengths, strict=True)]
    return flat.take(places), is_unequal, details


def _queries(held: _Rows, names: Columns, columns: InputColumns) -> tuple[pa.Table, CauseArray]:
    """One query a row, and why a query as a whole cannot be scored."""
    texts, ids = held.texts(names.query), held.ids(names.query_id)
    carried = held.carried(columns.query_passthrough)
    cause = np.zeros(len(held), dtype=np.int8)
    for invalid in [_invalid(texts), _invalid(ids), *map(_invalid, carried.values())]:
        _mark(cause, invalid, Cause.INVALID_QUERY)
    _mark(cause, texts.is_null().to_numpy(zero_copy_only=False), Cause.NULL_QUERY)
    table = pa.table(
        {
            "row": pa.array(held.numbers),
            "query_id": _query_ids(ids, held, held.numbers),
            "query": _without(texts, _invalid(texts)),
            **{name: scrubbed(values) for name, values in carried.items()},
        }
    )
    return table, cause


def _from_pairs(held: _Rows, names: Columns, columns: InputColumns) -> UnitCandidates:
    texts, ids = held.texts(names.query), held.ids(names.query_id)
    begins = begins_query(ids, texts) if len(held) else np.empty(0, dtype=np.bool_)
    begins[held.unit.offsets[:-1] if len(held) else []] = True
    starts = np.flatnonzero(begins)
    queries = np.cumsum(begins, dtype=np.int64) - 1
    index = np.arange(len(held), dtype=np.int64) - starts[queries]
    cause = np.zeros(len(held), dtype=np.int8)
    is_null = texts.is_null().to_numpy(zero_copy_only=False)
    invalid = _invalid(texts)
    _mark(cause, _invalid(ids), Cause.INVALID_QUERY)
    _mark(cause, invalid, Cause.INVALID_QUERY)
    _mark(cause, is_null, Cause.NULL_QUERY)
    speakers = _first_usable(~(is_null | invalid), starts)
    query_texts = texts.take(pa.array(speakers, mask=speakers == len(held)))
    differs = pc.not_equal(texts, query_texts.take(pa.array(queries))).fill_null(False)
    _mark(cause, differs.to_numpy(zero_copy_only=False), Cause.TEXT_DIFFERS)
    details = [] if not (cause == Cause.TEXT_DIFFERS).any() else _speaker_details(held, speakers[queries])
    table = pa.table(
        {
            "row": pa.array(starts),
            "query_id": _query_ids(None if ids is None else ids.take(pa.array(starts)), held, starts),
            "query": query_texts,
        }
    )
    carried = held.carried(columns.candidate_passthrough)
    documents = held.texts(names.document)
    doc_ids = held.ids(names.doc_id)
    candidates = _candidates(held, queries, held.numbers, index, doc_ids, documents, carried, cause)
    return UnitCandidates(table, candidates, cause, details)


def _first_usable(is_usable: BoolArray, starts: LongArray) -> LongArray:
    """For each run of rows the first usable one; the number of rows where none is."""
    if not len(starts):
        return starts
    places = np.where(is_usable, np.arange(len(is_usable)), len(is_usable))
    return np.asarray(np.minimum.reduceat(places, starts))


def _speaker_details(held: _Rows, speakers: LongArray) -> list[str]:
    _, rows = held.unit.places_of(np.minimum(speakers, len(held) - 1))
    return [f"Row {row} has the same query id and another text." for row in rows]


def _candidates(
    held: _Rows,
    queries: LongArray,
    rows: LongArray,
    index: LongArray,
    ids: pa.Array | None,
    documents: pa.Array,
    carried: dict[str, pa.Array],
    cause: CauseArray,
) -> pa.Table:
    for invalid in [_invalid(documents), _invalid(ids), *map(_invalid, carried.values())]:
        _mark(cause, invalid & (cause == Cause.NONE), Cause.INVALID_DOCUMENT)
    is_null = documents.is_null().to_numpy(zero_copy_only=False)
    _mark(cause, is_null & np.isin(cause, (Cause.NONE, Cause.INVALID_DOCUMENT)), Cause.NULL_DOCUMENT)
    return pa.table(
        {
            "query_at": pa.array(queries),
            "row": pa.array(rows),
            "index": pa.array(index.astype(np.int32)),
            "doc_id": _doc_ids(ids, held, rows, index),
            "document": documents,
            **carried,
        }
    )


def _with_textless(found: UnitCandidates, held: _Rows, rows: LongArray) -> UnitCandidates:
    """Add an entry for each row that has ids and no texts, so that these do not vanish in silence."""
    if not len(rows):
        return found
    columns = {field.name: pa.nulls(len(rows), field.type) for field in found.candidates.schema}
    columns |= {"query_at": pa.array(rows), "row": pa.array(rows)}
    candidates = pa.concat_tables([found.candidates, pa.table(columns, schema=found.candidates.schema)])
    order = np.argsort(candidates["row"].to_numpy(), kind="stable")
    cause = np.concatenate([found.cause, np.full(len(rows), Cause.UNEQUAL_LISTS, np.int8)])[order]
    return UnitCandidates(found.queries, candidates.take(pa.array(order)), cause, found.details)


def _places(lengths: LongArray) -> tuple[LongArray, LongArray]:
    """For each element of lists its list and its place there."""
    parents = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    return parents, np.arange(len(parents), dtype=np.int64) - offsets_of(lengths)[:-1][parents]


def _mark(cause: CauseArray, where: BoolArray, value: Cause) -> None:
    """What is marked later wins."""
    cause[where] = value


def _invalid(values: pa.Array | None) -> BoolArray:
    if values is None:
        return np.zeros((), dtype=np.bool_)
    is_invalid = np.zeros(len(values), dtype=np.bool_)
    is_invalid[invalid_positions(values)] = True
    return is_invalid


def _without(values: pa.Array, where: BoolArray) -> pa.Array:
    return values if not where.any() else pc.if_else(pa.array(~where), values, pa.scalar(None, values.type))


def _field(inner: dict[str, pa.Array], name: str, data_type: pa.DataType, length: int) -> pa.Array:
    return _conform_or_null(inner.get(name), pa.field(name, data_type), length)


def _conform_or_null(values: pa.Array | None, field: pa.Field, length: int) -> pa.Array:
    return pa.nulls(length, field.type) if values is None else conform(values, field.type)


def _query_ids(ids: pa.Array | None, held: _Rows, rows: LongArray) -> pa.Array:
    return _or_derived(ids, lambda: held.places(rows))


def _doc_ids(ids: pa.Array | None, held: _Rows, rows: LongArray, index: LongArray) -> pa.Array:
    return _or_derived(ids, lambda: [*held.places(rows), _large("/"), _numbers(index)])


def _or_derived(ids: pa.Array | None, parts: Callable[[], list[Any]]) -> pa.Array:
    """The user's ids; where there is none, or no text, one that is made of the place."""
    if ids is not None:
        ids = _without(ids, _invalid(ids))
        if not ids.null_count:
            return ids
    derived = pc.binary_join_element_wise(*parts(), _large(""))
    return derived if ids is None else pc.coalesce(ids, derived)


def _large(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())


def _numbers(values: LongArray) -> pa.Array:
    return pa.array(values).cast(pa.large_string())
