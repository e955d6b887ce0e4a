"""The nested layout: one row for each query, its candidates in a list of structs, of texts, or of texts and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.config import Columns
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.candidates import (
    Cause,
    CauseArray,
    UnitCandidates,
    UnitTable,
    candidate_table,
    conform_or_null,
    invalid_texts,
    mark,
    query_ids,
    without,
)
from reranker_batch.storage.input.columns import (
    FileColumns,
    FileSchema,
    InputColumns,
    Shape,
    Wanted,
    candidate_struct,
)
from reranker_batch.storage.input.input_file import OpenedFile
from reranker_batch.storage.input.nested_columns import inspect_nested
from reranker_batch.storage.input.query_runs import QueryRuns
from reranker_batch.storage.input.statistics import Groups, num_values
from reranker_batch.storage.values import id_strings, list_lengths, list_values, scrubbed


@dataclass(frozen=True)
class NestedLayout:
    """See `InputLayout`."""

    names: Columns
    is_reference: bool = False
    """Whether texts were looked up by their ids, so that a null is one that was not there."""
    is_row_a_query = True

    def inspect(self, schema: pa.Schema, file: str) -> FileColumns:
        return inspect_nested(FileSchema.of(schema, file), self.names)

    def num_pairs(self, groups: Groups, schema: pa.Schema) -> tuple[int, ...]:
        """A row whose list is null or empty counts as one."""
        return num_values(groups, schema, self.names.candidates, self.names.document)

    def leaf_of(self, name: str) -> tuple[str, str | None]:
        return self.names.candidates, name

    def id_fields(self, schema: pa.Schema, shape: Shape | None) -> list[pa.Field] | None:
        if shape is None:
            return None
        if shape == "texts":
            return [pa.field(field.name, field.type.value_type) for field in schema if is_list_like(field.type)]
        struct = candidate_struct(schema.field(self.names.candidates).type)
        return [*(schema if struct is None else struct)]

    def own_names(self, schema: pa.Schema) -> set[str]:
        own = {*schema.names, *self.lists("parallel_lists")}
        position = schema.get_field_index(self.names.candidates)
        struct = candidate_struct(schema.field(position).type) if position >= 0 else None
        return own if struct is None else own | {field.name for field in struct}

    def scan_queries(self, root: str, files: Sequence[OpenedFile]) -> list[QueryRuns] | None:
        return None

    def wanted(self, columns: InputColumns) -> Wanted:
        names = self.names
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
        return dict.fromkeys([*top, *sorted(self.lists(columns.shape))])

    def lists(self, shape: Shape | None) -> set[str]:
        names = self.names
        ids = {names.doc_id} if shape == "parallel_lists" and names.doc_id is not None else set()
        return {names.candidates, *ids}

    def candidates(self, rows: UnitTable, columns: InputColumns) -> UnitCandidates:
        names = self.names
        lists = rows.column(names.candidates)
        assert lists is not None
        lengths = list_lengths(lists)
        parents, index = _places(lengths)
        inner, ids = _inner_columns(lists, names, columns)
        is_unequal = np.zeros(len(rows), dtype=np.bool_)
        details: Sequence[str] = ()
        if columns.shape == "parallel_lists":
            ids, is_unequal, details = _ids_of_list(rows.column(names.doc_id), lengths, parents, index)
        queries, query_cause = _queries(rows, names, columns)
        cause = query_cause[parents]
        mark(cause, is_unequal[parents], Cause.UNEQUAL_LISTS)
        documents = _field(inner, names.document, pa.large_string(), len(parents))
        passthrough = {
            field.name: _field(inner, field.name, field.type, len(parents)) for field in columns.candidate_passthrough
        }
        candidates = candidate_table(rows, parents, parents, index, ids, documents, passthrough, cause)
        if self.is_reference:
            mark(cause, cause == Cause.NULL_QUERY, Cause.MISSING_QUERY)
            mark(cause, cause == Cause.NULL_DOCUMENT, Cause.MISSING_DOCUMENT)
        whole = UnitCandidates(queries, candidates, cause, details)
        return _with_textless(whole, np.flatnonzero(is_unequal & (lengths == 0)))


def _inner_columns(
    lists: pa.Array, names: Columns, columns: InputColumns
) -> tuple[dict[str, pa.Array], pa.Array | None]:
    """The elements of the lists by field, one for each candidate; texts are the document field."""
    if pa.types.is_null(lists.type):
        return {}, None
    flat = list_values(lists)
    if not pa.types.is_struct(flat.type):
        return {names.document: flat}, None
    inner = dict(zip([field.name for field in flat.type], flat.flatten(), strict=True))
    ids = inner.get(names.doc_id) if names.doc_id is not None and columns.shape == "structs" else None
    return inner, None if ids is None else id_strings(ids)


def _ids_of_list(
    lists: pa.Array | None, lengths: LongArray, parents: LongArray, index: LongArray
) -> tuple[pa.Array | None, BoolArray, Sequence[str]]:
    """Ids from the second list, the rows whose lists differ in length, and the details of each row."""
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
    details = [f"{texts} texts and {ids} ids." for texts, ids in zip(lengths, id_lengths, strict=True)]
    return flat.take(places), is_unequal, details


def _queries(rows: UnitTable, names: Columns, columns: InputColumns) -> tuple[pa.Table, CauseArray]:
    """The query of each row, and why it cannot be scored."""
    texts, ids = rows.texts(names.query), rows.ids(names.query_id)
    passthrough = rows.passthrough(columns.query_passthrough)
    cause = np.zeros(len(rows), dtype=np.int8)
    for invalid in [invalid_texts(texts), invalid_texts(ids), *map(invalid_texts, passthrough.values())]:
        mark(cause, invalid, Cause.INVALID_QUERY)
    mark(cause, texts.is_null().to_numpy(zero_copy_only=False), Cause.NULL_QUERY)
    table = pa.table(
        {
            "row": pa.array(rows.numbers),
            "query_id": query_ids(ids, rows, rows.numbers),
            "query": without(texts, invalid_texts(texts)),
            **{name: scrubbed(values) for name, values in passthrough.items()},
        }
    )
    return table, cause


def _with_textless(whole: UnitCandidates, rows: LongArray) -> UnitCandidates:
    """Add an entry for each row that has ids but no texts, so that it becomes a dead letter."""
    if not len(rows):
        return whole
    columns = {field.name: pa.nulls(len(rows), field.type) for field in whole.candidates.schema}
    columns |= {"query_at": pa.array(rows), "row": pa.array(rows)}
    candidates = pa.concat_tables([whole.candidates, pa.table(columns, schema=whole.candidates.schema)])
    order = np.argsort(candidates["row"].to_numpy(), kind="stable")
    cause = np.concatenate([whole.cause, np.full(len(rows), Cause.UNEQUAL_LISTS, np.int8)])[order]
    return UnitCandidates(whole.queries, candidates.take(pa.array(order)), cause, whole.details)


def _places(lengths: LongArray) -> tuple[LongArray, LongArray]:
    """For each element of the lists, its list and its position there."""
    parents = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    return parents, np.arange(len(parents), dtype=np.int64) - offsets_of(lengths)[:-1][parents]


def _field(inner: dict[str, pa.Array], name: str, data_type: pa.DataType, length: int) -> pa.Array:
    return conform_or_null(inner.get(name), pa.field(name, data_type), length)
