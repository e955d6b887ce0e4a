"""The first stages: rows of a run and queries by ranges of their ids, documents by a hash of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.core.buckets import buckets_of, id_hashes
from reranker_batch.core.ragged import LongArray
from reranker_batch.preparing.joining.ordering import Order, keep, run_schema
from reranker_batch.preparing.joining.ranges import gather_rows, ranges_of, row_files
from reranker_batch.preparing.joining.sources import RunTable, TextTable
from reranker_batch.preparing.work import Stage, Work, file_name
from reranker_batch.storage.files.bucketed import new_bucket_file
from reranker_batch.storage.tables.pieces import Piece

Numbered = tuple[int, Piece]


@dataclass(frozen=True)
class ReadRun:
    """Rows of a piece of the run."""

    work: Work
    run: RunTable
    row_bytes: int
    """Of a candidate with its text, on average."""

    def __call__(self, item: Numbered) -> int:
        number, piece = item
        tables = ((table, len(table) * self.row_bytes) for table in self.run.read(number, piece))
        return gather_rows(self.work, number, tables, query_ids, _doc_ids)


def query_ids(table: pa.Table) -> pa.ChunkedArray:
    return table["query_id"]


def _doc_ids(table: pa.Table) -> pa.ChunkedArray:
    return table["doc_id"]


@dataclass(frozen=True)
class SplitQueries:
    """Rows of a piece of the queries by the range of their id."""

    work: Work
    source: TextTable

    def __call__(self, item: Numbered) -> int:
        return _split(self.work, "queries", self.source, item, lambda ids: ranges_of(self.work, ids))


@dataclass(frozen=True)
class SplitCorpus:
    """Rows of a piece of the corpus by the bucket of their id."""

    work: Work
    source: TextTable

    def __call__(self, item: Numbered) -> int:
        buckets = self.work.document_buckets
        return _split(self.work, "corpus", self.source, item, lambda ids: buckets_of(id_hashes(ids), buckets))


def _split(
    work: Work, stage: Stage, source: TextTable, item: Numbered, place: Callable[[pa.ChunkedArray], LongArray]
) -> int:
    number, piece = item
    rows = 0
    with new_bucket_file(work.folder, file_name(stage, number)) as file:
        for table in source.read(number, piece):
            file.add(table, place(table["id"]))
            rows += len(table)
        file.facts["rows"] = rows
    return rows


@dataclass(frozen=True)
class OrderQueries:
    """The rows of a range of queries in their order, and which documents they need, by the bucket of those."""

    work: Work
    num_pieces: int
    """Of the run."""
    order: Order
    depth: int | None
    drop_identical: bool

    def __call__(self, number: int) -> int:
        work = self.work
        kept = keep(self._rows(number), self.order, depth=self.depth, drop_identical=self.drop_identical)
        hashes = np.unique(id_hashes(kept.rows["doc_id"]))
        with new_bucket_file(work.folder, file_name("order", number)) as file:
            file.add(pa.table({"hash": hashes}), buckets_of(hashes, work.document_buckets))
            file.write(work.document_buckets, kept.rows)
            file.facts.update(
                kept=len(kept.rows),
                repeated=kept.repeated,
                identical=kept.identical,
                cut=kept.cut,
            )
        return len(kept.rows)

    def _rows(self, number: int) -> pa.Table:
        tables = (table for file in row_files(self.work, self.num_pieces) for table in file.tables(number))
        return pa.concat_tables([run_schema(self.order).empty_table(), *tables])
