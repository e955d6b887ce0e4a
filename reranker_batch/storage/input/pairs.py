"""The pairs layout: one row for each query and document; the rows of a query are neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.config import Columns
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.schema import is_list_like
from reranker_batch.storage.files.filesystem import join, resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.candidates import (
    Cause,
    UnitCandidates,
    UnitTable,
    candidate_table,
    invalid_texts,
    mark,
    query_ids,
)
from reranker_batch.storage.input.columns import COLUMNS_KEY, FileColumns, FileSchema, InputColumns, Shape, Wanted
from reranker_batch.storage.input.input_file import OpenedFile
from reranker_batch.storage.input.query_runs import (
    KeyColumns,
    QueryRuns,
    begins_query,
    key_reader,
    refuse_returning,
    scan_queries,
)
from reranker_batch.storage.input.statistics import Groups

_SCAN_THREADS = 4


@dataclass(frozen=True)
class PairsLayout:
    """See `InputLayout`."""

    names: Columns
    is_row_a_query = False

    def inspect(self, schema: pa.Schema, file: str) -> FileColumns:
        return _inspect(FileSchema.of(schema, file), self.names)

    def num_pairs(self, groups: Groups, schema: pa.Schema) -> tuple[int, ...]:
        return tuple(group.num_rows for group in groups)

    def leaf_of(self, name: str) -> tuple[str, str | None]:
        return name, None

    def id_fields(self, schema: pa.Schema, shape: Shape | None) -> list[pa.Field] | None:
        return [*schema]

    def own_names(self, schema: pa.Schema) -> set[str]:
        return {*schema.names}

    def scan_queries(self, root: str, files: Sequence[OpenedFile]) -> list[QueryRuns] | None:
        """Ids that are all null are none, so that the texts tell queries apart."""
        runs = self._scanned(root, files)
        has_ids = any(opened.columns.query_id is not None for opened in files)
        if has_ids and not any(each.is_named.any() for each in runs):
            return PairsLayout(self.names.model_copy(update={"query_id": None}))._scanned(root, files)
        return runs

    def _scanned(self, root: str, files: Sequence[OpenedFile]) -> list[QueryRuns]:
        filesystem, folder = resolve(root)

        def scan(opened: OpenedFile) -> QueryRuns:
            path, identity, keys = join(folder, opened.file.path), opened.file.identity, self._keys(opened)
            return retried(lambda: scan_queries(filesystem, path, identity, keys), f"Reading {path}")

        with ThreadPoolExecutor(_SCAN_THREADS) as pool:
            runs = list(pool.map(scan, files))
        paths = [opened.file.path for opened in files]
        has_ids = any(opened.columns.query_id is not None for opened in files)
        keys = {opened.file.path: (opened.file.identity, self._keys(opened)) for opened in files}
        read_key = key_reader(filesystem, folder, keys)
        origins = {opened.file.path: opened.origin for opened in files if opened.origin is not None}
        places = list(zip(paths, runs, strict=True))
        refuse_returning(places, read_key, sort_by=self._key_name(has_ids=has_ids), origins=origins)
        return runs

    def _keys(self, opened: OpenedFile) -> KeyColumns:
        return KeyColumns(self.names, opened.constants, opened.has_null_ids)

    def _key_name(self, *, has_ids: bool) -> str:
        return str(self.names.query_id) if has_ids and self.names.query_id is not None else self.names.query

    def wanted(self, columns: InputColumns) -> Wanted:
        names = self.names
        ids = [name for name in (names.query_id, names.doc_id) if name is not None]
        passthrough = [field.name for field in columns.candidate_passthrough]
        return dict.fromkeys([names.query, *ids, names.document, *passthrough])

    def lists(self, shape: Shape | None) -> set[str]:
        return set()

    def candidates(self, rows: UnitTable, columns: InputColumns) -> UnitCandidates:
        names = self.names
        texts, ids = rows.texts(names.query), rows.ids(names.query_id)
        starts, query_of = _queries(rows, ids, texts)
        index = np.arange(len(rows), dtype=np.int64) - starts[query_of]
        cause = np.zeros(len(rows), dtype=np.int8)
        is_null, is_invalid = texts.is_null().to_numpy(zero_copy_only=False), invalid_texts(texts)
        mark(cause, invalid_texts(ids), Cause.INVALID_QUERY)
        mark(cause, is_invalid, Cause.INVALID_QUERY)
        mark(cause, is_null, Cause.NULL_QUERY)
        text_rows = _first_usable(~(is_null | is_invalid), starts)
        query_texts = texts.take(pa.array(text_rows, mask=text_rows == len(rows)))
        differs = pc.not_equal(texts, query_texts.take(pa.array(query_of))).fill_null(False)
        mark(cause, differs.to_numpy(zero_copy_only=False), Cause.TEXT_DIFFERS)
        details = _text_details(rows, text_rows[query_of]) if (cause == Cause.TEXT_DIFFERS).any() else []
        first_ids = None if ids is None else ids.take(pa.array(starts))
        queries = pa.table(
            {"row": pa.array(starts), "query_id": query_ids(first_ids, rows, starts), "query": query_texts}
        )
        passthrough = rows.passthrough(columns.candidate_passthrough)
        documents, doc_ids = rows.texts(names.document), rows.ids(names.doc_id)
        candidates = candidate_table(rows, query_of, rows.numbers, index, doc_ids, documents, passthrough, cause)
        return UnitCandidates(queries, candidates, cause, details)


def _queries(rows: UnitTable, ids: pa.Array | None, texts: pa.Array) -> tuple[LongArray, LongArray]:
    """The rows at which queries begin, and the query of each row; a query never spans two files."""
    if not len(rows):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    begins = begins_query(ids, texts)
    begins[rows.unit.offsets[:-1]] = True
    return np.flatnonzero(begins), np.cumsum(begins, dtype=np.int64) - 1


def _first_usable(is_usable: BoolArray, starts: LongArray) -> LongArray:
    """The first usable row of each run; the number of rows if there is none."""
    if not len(starts):
        return starts
    places = np.where(is_usable, np.arange(len(is_usable)), len(is_usable))
    return np.asarray(np.minimum.reduceat(places, starts))


def _text_details(rows: UnitTable, text_rows: LongArray) -> list[str]:
    numbers = rows.source_rows(np.minimum(text_rows, len(rows) - 1))
    return [f"Row {number} has the same query id and another text." for number in numbers]


def _inspect(file: FileSchema, names: Columns) -> FileColumns:
    nested = file.type_of(names.candidates)
    hint = " Or did you mean input.layout: nested?" if nested is not None and is_list_like(nested) else ""
    file.need_text(names.query, COLUMNS_KEY + "query")
    file.need_text(names.document, COLUMNS_KEY + "document", hint)
    doc_id = None
    if names.doc_id is not None and (names.doc_id != "doc_id" or file.type_of("doc_id") is not None):
        doc_id = file.need_id(names.doc_id, file.need(names.doc_id, COLUMNS_KEY + "doc_id"), COLUMNS_KEY + "doc_id")
    passthrough = {name: file.need(name, COLUMNS_KEY + "passthrough") for name in names.passthrough}
    return FileColumns("pairs", file.query_id(names), doc_id, {}, passthrough)
