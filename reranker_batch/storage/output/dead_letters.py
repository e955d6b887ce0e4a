"""Candidates that cannot be scored, as rows that keep their whole input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, offsets_of, positions_of
from reranker_batch.core.unit_summary import MAX_EXAMPLES, MAX_ID_LENGTH, DeadLetterExample, first_examples
from reranker_batch.core.units import WorkUnit
from reranker_batch.schema import dead_letter_schema, output_type
from reranker_batch.storage.input.source import SourceRows
from reranker_batch.storage.values import conform_table, list_lengths, list_values, scrubbed

_WHOLE_ROW = "unequal_lists"
_PIECE_ROWS = 1_024


def dead_letter_table(places: pa.Table, source: SourceRows, unit: WorkUnit) -> pa.Table:
    """One row for each of `places`, in their order; they come from the reader and from later steps.

    `input` is the input row with this one candidate left in its lists, so that it is input again once the cause
    is gone. A row with lists of unequal length has no such parts: the first of its dead letters keeps the whole
    row and the others a null `input`. Bytes that are no valid UTF-8 show as U+FFFD, since most readers refuse a
    file that holds them; `file` and `row` lead to the original.
    """
    rows = _DeadLetterRows(source, unit)
    kinds = _Kinds.of(places)
    starts = range(0, len(places), _PIECE_ROWS)
    pieces = [rows.table(places.slice(start, _PIECE_ROWS), kinds.slice(start)) for start in starts]
    return pa.concat_tables([rows.schema.empty_table(), *pieces])


def examples_of(dead_letters: pa.Table) -> tuple[DeadLetterExample, ...]:
    """The first dead letters of each reason code of a unit: their ids and places, no texts."""
    examples: list[DeadLetterExample] = []
    for reason_code in pc.unique(dead_letters["reason_code"]).to_pylist():
        rows = dead_letters.filter(pc.equal(dead_letters["reason_code"], reason_code)).slice(0, MAX_EXAMPLES)
        for row in rows.select(["file", "row", "query_id", "doc_id"]).to_pylist():
            ids = {name: (row[name] or "")[:MAX_ID_LENGTH] for name in ("query_id", "doc_id")}
            examples.append(DeadLetterExample(reason_code, row["file"], row["row"], **ids))
    return first_examples(examples)


@dataclass(frozen=True)
class _Kinds:
    """Which dead letters keep their row whole, and which keep none because an earlier one does."""

    is_whole: BoolArray
    is_repeated: BoolArray

    @classmethod
    def of(cls, places: pa.Table) -> _Kinds:
        is_whole = np.asarray(pc.equal(places["reason_code"], _WHOLE_ROW).to_numpy(zero_copy_only=False), np.bool_)
        firsts = np.unique(np.where(is_whole, places["row"].to_numpy(), -1), return_index=True)[1]
        is_repeated = is_whole.copy()
        is_repeated[firsts] = False
        return cls(is_whole & ~is_repeated, is_repeated)

    def slice(self, start: int) -> _Kinds:
        piece = slice(start, start + _PIECE_ROWS)
        return _Kinds(self.is_whole[piece], self.is_repeated[piece])


class _DeadLetterRows:
    """Builds dead letters of one unit, piece by piece."""

    def __init__(self, source: SourceRows, unit: WorkUnit) -> None:
        self._rows = source.table
        self._unit = unit
        self._source = source.candidates
        self._is_row_a_query = source.is_row_a_query
        rows = self._source.candidates["row"].to_numpy()
        self._first_candidate = offsets_of(np.bincount(rows, minlength=len(source.table)).astype(np.int64))
        self._lists = {
            field.name: _Lists.of(source.table.column(field.name).chunk(0))
            for field in source.table.schema
            if field.name in source.lists and pa.types.is_large_list(field.type)
        }
        self.schema = dead_letter_schema(output_type(pa.struct(list(source.table.schema))))

    def table(self, places: pa.Table, kinds: _Kinds) -> pa.Table:
        rows = places["row"].to_numpy()
        index = places["index"].fill_null(0).to_numpy().astype(np.int64)
        candidate_at = self._first_candidate[rows] + (index if self._is_row_a_query else 0)
        spans, numbers = self._unit.places_of(rows)
        values = {
            "query_id": self._source.queries["query_id"].take(places["query_at"]),
            "doc_id": self._source.candidates["doc_id"].take(pa.array(candidate_at)),
            "file": pa.array([self._unit.spans[at].file for at in spans], pa.string()),
            "row": pa.array(numbers),
            "input": self._input(rows, index, kinds),
            **{name: places[name] for name in ("index", "reason_code", "message")},
        }
        return conform_table(pa.table(values).select(self.schema.names), self.schema)

    def _input(self, rows: LongArray, index: LongArray, kinds: _Kinds) -> pa.Array:
        places = pa.array(rows, mask=kinds.is_repeated)
        columns = [
            self._lists[field.name].elements(rows, index, kinds)
            if field.name in self._lists
            else self._rows.column(field.name).chunk(0).take(places)
            for field in self._rows.schema
        ]
        fields = list(self._rows.schema)
        return scrubbed(pa.StructArray.from_arrays(columns, fields=fields, mask=pa.array(kinds.is_repeated)))


@dataclass(frozen=True)
class _Lists:
    """A list column taken apart, so that single elements are reached without copying their lists."""

    elements_flat: pa.Array
    starts: LongArray
    lengths: LongArray
    is_null: BoolArray
    type: pa.DataType

    @classmethod
    def of(cls, lists: pa.Array) -> _Lists:
        lengths = list_lengths(lists)
        is_null = lists.is_null().to_numpy(zero_copy_only=False)
        return cls(list_values(lists), offsets_of(lengths)[:-1], lengths, is_null, lists.type)

    def elements(self, rows: LongArray, index: LongArray, kinds: _Kinds) -> pa.Array:
        """Lists of row `rows[i]`: whole, or cut to element `index[i]`."""
        lengths = np.where(kinds.is_whole, self.lengths[rows], np.minimum(self.lengths[rows], 1))
        lengths[kinds.is_repeated] = 0
        places = positions_of(self.starts[rows] + np.where(kinds.is_whole, 0, index), lengths)
        elements = self.elements_flat.take(pa.array(places))
        is_null = pa.array(self.is_null[rows])
        return pa.LargeListArray.from_arrays(pa.array(offsets_of(lengths)), elements, type=self.type, mask=is_null)
