"""Raw rows to prepared rows, on whole columns: the nested table, or the table of pairs, that is always read the same.

Nothing is judged here. Nulls, invalid UTF-8 and lists of unequal length stay what they are, so that reading the
prepared rows makes the same dead letters of them as of a table that needs no adaption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.errors import InputError
from reranker_batch.preparing.table.adaption import Adaption, CandidateList, Path
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.columns import id_family, is_text
from reranker_batch.storage.input.promotion import common_type
from reranker_batch.storage.input.reading import LIST_COLUMN
from reranker_batch.storage.values import conform, id_strings, invalid_positions, list_lengths, list_values

_TEXT = pa.large_string()


@dataclass(frozen=True)
class RowPlaces:
    """Where rows stand in their source, for the ids that are made of it and for messages."""

    file: str
    numbers: LongArray
    """Row or line of each, counted from 0."""

    def query_ids(self) -> pa.Array:
        return pc.binary_join_element_wise(_text(f"{self.file}#"), _number_texts(self.numbers), _text(""))

    def doc_ids(self, rows: LongArray, index: LongArray) -> pa.Array:
        queries = self.query_ids().take(pa.array(rows))
        return pc.binary_join_element_wise(queries, _number_texts(index), _text("/"))


def adapt(table: pa.Table, adaption: Adaption, places: RowPlaces) -> pa.Table:
    """The prepared rows of raw rows, in their order; a row stays a row.

    Nested: `query_id`, `query`, `candidates` (structs of `doc_id`, the text and passthrough fields; texts alone where a
    second list has their ids), passthrough columns. Pairs: `query_id`, `query`, `doc_id`, the text, passthrough
    columns; ids that are not there are left to be made when the rows are read. Columns are single chunks.

    Raises:
        InputError: A value is not of a kind that its column may have. Names file and column.
    """
    rows = _Rows(table, adaption, places)
    return rows.pairs() if adaption.layout == "pairs" else rows.nested()


@dataclass(frozen=True)
class _Rows:
    table: pa.Table
    adaption: Adaption
    places: RowPlaces

    def pairs(self) -> pa.Table:
        adaption = self.adaption
        fields = self._top()
        query_ids, doc_ids = (
            {} if path is None else {name: self._ids(fields, path, name)}
            for name, path in (("query_id", adaption.query_id), ("doc_id", adaption.doc_id))
        )
        return pa.table(
            {
                **query_ids,
                "query": self._texts(fields, adaption.query, "query"),
                **doc_ids,
                adaption.document_name: self._document(fields),
                **{name: self._at(fields, path) for name, path in adaption.candidate_passthrough},
            }
        )

    def nested(self) -> pa.Table:
        adaption, fields = self.adaption, self._top()
        made = self.places.query_ids
        ids = made() if adaption.query_id is None else self._ids(fields, adaption.query_id, "query_id")
        lists = self._id_lists(fields) if adaption.has_id_list else {"candidates": self._candidates(fields)}
        return pa.table(
            {
                "query_id": pc.coalesce(ids, made()) if ids.null_count else ids,
                "query": self._texts(fields, adaption.query, "query"),
                **lists,
                **{name: self._at(fields, path) for name, path in adaption.query_passthrough},
            }
        )

    def _id_lists(self, fields: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """The list of texts and that of ids, as they are: their lengths are compared when they are read."""
        [one], path = self.adaption.lists, self.adaption.doc_id
        assert path is not None
        texts, ids = self._at(fields, one.column), self._at(fields, path)
        return {"candidates": self._list_of_texts(texts, one), "doc_id": self._list_of_ids(ids)}

    def _list_of_texts(self, lists: pa.Array, one: CandidateList) -> pa.Array:
        if pa.types.is_null(lists.type):
            return pa.nulls(len(lists), pa.large_list(_TEXT))
        if not is_list_like(lists.type) or not is_text(lists.type.value_type):
            raise self._wrong(one.name, lists.type, "a list of texts")
        return conform(lists, pa.large_list(_TEXT))

    def _list_of_ids(self, lists: pa.Array) -> pa.Array:
        if pa.types.is_null(lists.type):
            return pa.nulls(len(lists), pa.large_list(_TEXT))
        if not is_list_like(lists.type):
            raise self._wrong("doc_id", lists.type, "a list of ids")
        values = self._id_texts(list_values(lists), "doc_id")
        offsets = pa.array(offsets_of(list_lengths(lists)))
        return pa.LargeListArray.from_arrays(offsets, values, mask=lists.is_null())

    def _candidates(self, fields: Mapping[str, pa.Array]) -> pa.Array:
        """All candidates of each row, those of the first list first."""
        pieces = [self._list(self._at(fields, one.column), one) for one in self.adaption.lists]
        lengths = sum((piece.lengths for piece in pieces), np.zeros(len(self.table), dtype=np.int64))
        rows = np.concatenate([np.repeat(np.arange(len(self.table)), piece.lengths) for piece in pieces])
        order = np.argsort(rows, kind="stable")
        columns = {
            name: self._joined([piece.columns[name] for piece in pieces], name, order) for name in pieces[0].columns
        }
        offsets = offsets_of(lengths)
        rows = rows[order]
        index = np.arange(len(rows), dtype=np.int64) - offsets[:-1][rows]
        if columns["doc_id"].null_count:
            columns["doc_id"] = pc.coalesce(columns["doc_id"], self.places.doc_ids(rows, index))
        structs = pa.StructArray.from_arrays([*columns.values()], [*columns])
        is_null = np.logical_and.reduce([piece.is_null for piece in pieces])
        return pa.LargeListArray.from_arrays(pa.array(offsets), structs, mask=pa.array(is_null))

    def _joined(self, columns: Sequence[pa.Array], name: str, order: LongArray) -> pa.Array:
        """One column of all lists, in the order of the rows."""
        if len(columns) == 1:
            return columns[0]
        data_type: pa.DataType | None = reduce(
            lambda first, second: None if first is None else common_type(first, second),
            [column.type for column in columns],
        )
        if data_type is None:
            types = ", ".join(dict.fromkeys(str(column.type) for column in columns))
            raise InputError(
                f"{name!r} of the candidates in {self.places.file} is of several types: {types}. Write it with one "
                "type, or leave it out of input.columns.passthrough."
            )
        return pa.concat_arrays([conform(column, data_type) for column in columns]).take(pa.array(order))

    def _list(self, values: pa.Array, one: CandidateList) -> _Candidates:
        if pa.types.is_null(values.type):
            lengths, elements = np.zeros(len(values), dtype=np.int64), pa.nulls(0)
        elif is_list_like(values.type):
            lengths, elements = list_lengths(values), list_values(values)
        elif is_text(values.type) and self.adaption.names_lists:
            lengths = values.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
            elements = values.drop_null()
        else:
            raise self._wrong(one.name, values.type, "a list of structs or of texts")
        columns = self._elements(elements, one)
        if self.adaption.names_lists:
            columns[LIST_COLUMN] = pa.repeat(_text(one.name), len(elements))
        return _Candidates(lengths, values.is_null().to_numpy(zero_copy_only=False), columns)

    def _elements(self, elements: pa.Array, one: CandidateList) -> dict[str, pa.Array]:
        """The columns of candidates, given as structs or texts."""
        adaption, count = self.adaption, len(elements)
        if pa.types.is_struct(elements.type):
            names = [each.name for each in elements.type]
            fields = dict(zip(names, elements.flatten(), strict=True))
            documents = self._document(fields, count)
        elif is_text(elements.type):
            fields, documents = {}, conform(elements, _TEXT)
        else:
            raise self._wrong(one.name, pa.large_list(elements.type), "a list of structs or of texts")
        ids = pa.nulls(count, _TEXT)
        if adaption.doc_id is not None:
            ids = self._ids(fields, adaption.doc_id, "doc_id", count)
        passthrough = {name: self._at(fields, path, count) for name, path in adaption.candidate_passthrough}
        return {"doc_id": ids, adaption.document_name: documents, **passthrough}

    def _top(self) -> dict[str, pa.Array]:
        """The columns of the table.

        Raises:
            InputError: One is missing, where all rows have the same columns.
        """
        missing = set(self.adaption.wanted) - set(self.table.column_names)
        if missing and not self.adaption.is_open:
            raise InputError(
                f"Column {min(missing)!r} is missing in {self.places.file}, and other files have it; found: "
                f"{', '.join(self.table.column_names)}. Give files with the same columns."
            )
        return {name: _one(self.table[name]) for name in self.table.column_names}

    def _document(self, fields: Mapping[str, pa.Array], count: int | None = None) -> pa.Array:
        texts = [self._texts(fields, path, "document", count) for path in self.adaption.document]
        if not texts:
            return pa.nulls(len(self.table) if count is None else count, _TEXT)
        return joined_texts(texts, self.adaption.separator) if self.adaption.is_joined else texts[0]

    def _texts(self, fields: Mapping[str, pa.Array], path: Path, key: str, count: int | None = None) -> pa.Array:
        values = self._at(fields, path, count)
        if not is_text(values.type):
            raise self._wrong(".".join(path), values.type, "text", key)
        return conform(values, _TEXT)

    def _ids(self, fields: Mapping[str, pa.Array], path: Path, key: str, count: int | None = None) -> pa.Array:
        return self._id_texts(self._at(fields, path, count), key)

    def _id_texts(self, values: pa.Array, key: str) -> pa.Array:
        if id_family(values.type) is None:
            raise self._wrong(key, values.type, "one value", key)
        return id_strings(values)

    def _at(self, fields: Mapping[str, pa.Array], path: Path, count: int | None = None) -> pa.Array:
        """The values at a path; nulls where it is not there."""
        nothing = pa.nulls(len(self.table) if count is None else count)
        values = fields.get(path[0])
        for at, name in enumerate(path[1:], start=1):
            if values is None or pa.types.is_null(values.type):
                return nothing
            if not pa.types.is_struct(values.type):
                raise self._wrong(".".join(path[:at]), values.type, f"an object with {name!r}")
            inner = [each.name for each in values.type]
            values = values.flatten()[inner.index(name)] if name in inner else None
        return nothing if values is None else values

    def _wrong(self, column: str, seen: pa.DataType, expected: str, key: str = "") -> InputError:
        remedy = f" Set input.columns.{key}." if key else ""
        kind = "an object" if pa.types.is_struct(seen) else str(seen)
        return InputError(f"{column!r} in {self.places.file} is {kind}, {expected} is expected.{remedy}")


@dataclass(frozen=True)
class _Candidates:
    """The candidates of one list: how many each row has, whether it has none at all, and their columns."""

    lengths: LongArray
    is_null: np.ndarray
    columns: dict[str, pa.Array]


def joined_texts(texts: Sequence[pa.Array], separator: str) -> pa.Array:
    """Texts of several columns joined: null and empty ones left out, the result stripped, null where all are null."""
    empty = _text("")
    filled = [pc.fill_null(each, empty) for each in texts]
    joined = reduce(lambda first, second: _joined_two(first, second, separator), filled)
    is_null = reduce(pc.and_, [each.is_null() for each in texts])
    return pc.if_else(is_null, pa.scalar(None, _TEXT), _stripped(joined))


def _joined_two(first: pa.Array, second: pa.Array, separator: str) -> pa.Array:
    both = pc.binary_join_element_wise(first, second, _text(separator))
    is_one = pc.or_(_is_empty(first), _is_empty(second))
    return pc.if_else(is_one, pc.if_else(_is_empty(first), second, first), both)


def _is_empty(texts: pa.Array) -> pa.Array:
    return pc.equal(pc.binary_length(texts), 0)


def _stripped(texts: pa.Array) -> pa.Array:
    """Without blanks at both ends; texts that are not valid UTF-8 stay as they are."""
    try:
        return pc.utf8_trim_whitespace(texts)
    except pa.ArrowInvalid:
        is_invalid = np.zeros(len(texts), dtype=np.bool_)
        is_invalid[invalid_positions(texts)] = True
        mask = pa.array(is_invalid)
        return pc.if_else(mask, texts, pc.utf8_trim_whitespace(pc.if_else(mask, _text(""), texts)))


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _number_texts(values: LongArray) -> pa.Array:
    return pa.array(values).cast(_TEXT)


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, _TEXT)
