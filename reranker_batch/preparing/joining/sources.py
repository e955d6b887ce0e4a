"""The tables that a preparation reads: a run, and the texts that its ids stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.preparing.joining.numbers import NotANumberError, ranks, scores
from reranker_batch.preparing.joining.ordering import Order, run_schema
from reranker_batch.preparing.table.adapter import joined_texts
from reranker_batch.preparing.table.adaption import find
from reranker_batch.schema import is_list_like
from reranker_batch.storage.tables.lines import Lines
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.reading import RawRows, read_piece
from reranker_batch.storage.tables.table_files import TableFiles
from reranker_batch.storage.values import id_strings, list_lengths, list_values, one_chunk

PLACE_FIELDS = [pa.field("piece", pa.int32()), pa.field("row", pa.int64())]
TEXT_SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string()), *PLACE_FIELDS])


@dataclass(frozen=True)
class RunTable:
    """Which documents are proposed for which queries."""

    files: TableFiles
    query_id: str
    doc_id: str
    score: str | None = None
    rank: str | None = None
    is_nested: bool = False
    """Whether a row is a query, and `doc_id` the list of its documents in the order of their ranks."""

    @property
    def order(self) -> Order:
        if self.score is not None:
            return "score"
        return "rank" if self.is_nested or self.rank is not None else "place"

    def read(self, number: int, piece: Piece) -> Iterator[pa.Table]:
        """The rows of the piece with this number, in the columns of `run_schema`.

        Raises:
            InputError: They cannot be read; an id is null, or a score or rank is no number. Names file and line.
        """
        paths = [path for path in (self.query_id, self.doc_id, self.score, self.rank) if path is not None]
        for raw in read_piece(self.files, piece, tops(paths), ids=(self.query_id, self.doc_id)):
            if len(raw.table):
                for path in paths:
                    _refuse_absent(raw, [path])
                yield self._rows(raw, number)

    def _rows(self, raw: RawRows, number: int) -> pa.Table:
        documents, parents = self._documents(raw)
        queries = column_at(raw.table, self.query_id).take(pa.array(parents))
        columns = [ids_of(queries, raw, parents, self.query_id), ids_of(documents, raw, parents, self.doc_id)]
        if self.order == "place":
            columns += [pa.array(np.full(len(parents), number, np.int32)), pa.array(raw.numbers)]
        elif self.score is None and self.is_nested:
            columns.append(pa.array(_index_within(parents)))
        else:
            columns.append(self._numbers(raw, parents))
        return pa.table(columns, schema=run_schema(self.order))

    def _documents(self, raw: RawRows) -> tuple[pa.Array, LongArray]:
        """The documents, and the row of each."""
        documents = column_at(raw.table, self.doc_id)
        rows = np.arange(len(raw.numbers), dtype=np.int64)
        if not self.is_nested:
            return documents, rows
        if not is_list_like(documents.type):
            documents = documents.cast(pa.large_list(pa.large_string()))
        return list_values(documents), np.repeat(rows, list_lengths(documents))

    def _numbers(self, raw: RawRows, parents: LongArray) -> pa.Array:
        key, name = ("score", self.score) if self.score is not None else ("rank", self.rank)
        assert name is not None
        values = column_at(raw.table, name)
        values = self._listed(values, raw, parents, name) if self.is_nested else values
        try:
            return scores(values) if key == "score" else ranks(values)
        except NotANumberError as error:
            what = "number" if key == "score" else "whole number"
            raise InputError(
                f"{raw.place(int(parents[error.row]))}: the {key} {error.value!r} is no {what} that can be ordered. "
                f"Mend the row, or name another column in prepare.run.{key}."
            ) from None

    def _listed(self, lists: pa.Array, raw: RawRows, parents: LongArray, name: str) -> pa.Array:
        """The values of lists that are as long as those of the documents."""
        if pa.types.is_null(lists.type):
            lists = lists.cast(pa.large_list(pa.large_string()))
        if not is_list_like(lists.type):
            raise InputError(
                f"{raw.place(0)}: {name!r} is no list, but {self.doc_id!r} is: a list with a value for each of its "
                "documents is expected. Name such a column in prepare.run, or leave it out of the run."
            )
        own, others = list_lengths(lists), np.bincount(parents, minlength=len(lists))
        if len(rows := np.flatnonzero(own != others)):
            row = int(rows[0])
            raise InputError(
                f"{raw.place(row)}: the lists {name!r} and {self.doc_id!r} have {own[row]:,} and {others[row]:,} "
                "values. Mend the row, so that each document has one."
            )
        return list_values(lists)


@dataclass(frozen=True)
class TextTable:
    """Texts by their ids."""

    kind: str
    """`corpus` or `queries`, as the config calls it."""
    files: TableFiles
    id: str
    text: tuple[str, ...]

    def read(self, number: int, piece: Piece) -> Iterator[pa.Table]:
        """The rows of the piece with this number, in the columns of `TEXT_SCHEMA`.

        Raises:
            InputError: They cannot be read, or an id is null. Names file and line.
        """
        for raw in read_piece(self.files, piece, tops([self.id, *self.text]), ids=(self.id,)):
            if not len(raw.table):
                continue
            _refuse_absent(raw, [self.id])
            _refuse_absent(raw, self.text)
            rows = np.arange(len(raw.table), dtype=np.int64)
            ids = ids_of(column_at(raw.table, self.id), raw, rows, self.id)
            texts = joined([texts_of(column_at(raw.table, path), raw, path, self.kind) for path in self.text])
            place = [pa.array(np.full(len(rows), number, np.int32)), pa.array(raw.numbers)]
            yield pa.table([ids, texts, *place], schema=TEXT_SCHEMA)

    def place(self, piece: Piece, row: int) -> str:
        """File and line of a row, for a message."""
        if self.files.form == "parquet":
            return f"{self.files.files[piece.file_index].path}, row {piece.start + row:,}"
        return Lines(self.files, piece).place(row)


def column_at(table: pa.Table, path: str) -> pa.Array:
    """The column with this name or at this dotted path; nulls where there is none."""
    if path in table.column_names:
        return one_chunk(table[path].chunks, table[path].type)
    name, _, rest = path.partition(".")
    if not rest or name not in table.column_names:
        return pa.nulls(len(table), pa.large_string())
    column = one_chunk(table[name].chunks, table[name].type)
    for step in rest.split("."):
        if not pa.types.is_struct(column.type) or column.type.get_field_index(step) < 0:
            return pa.nulls(len(table), pa.large_string())
        column = pc.struct_field(column, step)
    return column


def _refuse_absent(raw: RawRows, paths: Sequence[str]) -> None:
    """Raises InputError for a file that has none of these columns; rows of JSON may leave them out."""
    if raw.lines.files.form in ("jsonl", "json") or any(find(raw.table.schema, path) for path in paths):
        return
    names = " or ".join(map(repr, paths))
    raise InputError(
        f"{raw.file} has no column {names}, which its first row or the other files of this table have. Give files of "
        "the same columns, all with a header or all without. A path does not lead through a list."
    )


def ids_of(values: pa.Array, raw: RawRows, rows: LongArray, name: str) -> pa.Array:
    """Ids as strings. Raises InputError for one that is null, which nothing can be joined with."""
    if values.null_count:
        row = int(rows[pc.index(values.is_null(), True).as_py()])
        raise InputError(
            f"{raw.place(row)}: {name!r} is null, but it is the id that rows are joined by. Give it a value, or leave "
            "the row out."
        )
    if pa.types.is_nested(values.type) and len(values):
        raise InputError(f"{raw.place(int(rows[0]))}: {name!r} is {_kind(values)}. An id is text or a whole number.")
    return id_strings(values)


def texts_of(values: pa.Array, raw: RawRows, name: str, kind: str) -> pa.Array:
    """Values as texts. Raises InputError for lists and objects."""
    if not pa.types.is_nested(values.type):
        return pc.cast(values, options=pc.CastOptions(pa.large_string(), allow_invalid_utf8=True))
    if values.null_count == len(values):
        return pa.nulls(len(values), pa.large_string())
    row = pc.index(values.is_valid(), True).as_py()
    raise InputError(
        f"{raw.place(row)}: {name!r} is {_kind(values)}, a text is expected. Name another column, or a field by its "
        f"path, in prepare.{kind}.text."
    )


def _kind(values: pa.Array) -> str:
    return "a list" if is_list_like(values.type) else "an object"


def joined(texts: list[pa.Array]) -> pa.Array:
    """The text of each row; of several columns joined by a space."""
    return texts[0] if len(texts) == 1 else joined_texts(texts, " ")


def tops(paths: list[str]) -> set[str]:
    """The top-level columns that paths may lead into."""
    return {name for path in paths for name in (path, path.partition(".")[0])}


def _index_within(parents: LongArray) -> LongArray:
    """The place of each element within its list, from 0 on."""
    starts = np.searchsorted(parents, parents, side="left")
    return np.arange(len(parents), dtype=np.int64) - starts
