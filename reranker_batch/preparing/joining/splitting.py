"""The first stages: rows of a run, queries and documents into buckets by a hash of their ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.core.buckets import buckets_of, id_hashes
from reranker_batch.preparing.joining.ordering import Order, keep, run_schema
from reranker_batch.preparing.joining.sources import RunTable, TextTable
from reranker_batch.preparing.work import Stage, Work, file_name
from reranker_batch.storage.files.bucketed import new_bucket_file
from reranker_batch.storage.tables.pieces import Piece

Numbered = tuple[int, Piece]


@dataclass(frozen=True)
class SplitRun:
    """Rows of a piece of the run by the bucket of their query."""

    work: Work
    run: RunTable

    def __call__(self, item: Numbered) -> int:
        number, piece = item
        rows = 0
        with new_bucket_file(self.work.folder, file_name("run", number)) as file:
            for table in self.run.read(number, piece):
                file.add(table, buckets_of(id_hashes(table["query_id"]), self.work.query_buckets))
                rows += len(table)
            file.facts["rows"] = rows
        return rows


@dataclass(frozen=True)
class SplitTexts:
    """Rows of a piece of the queries, or of the corpus, by the bucket of their id."""

    work: Work
    source: TextTable
    stage: Stage
    num_buckets: int

    def __call__(self, item: Numbered) -> int:
        number, piece = item
        rows = 0
        with new_bucket_file(self.work.folder, file_name(self.stage, number)) as file:
            for table in self.source.read(number, piece):
                file.add(table, buckets_of(id_hashes(table["id"]), self.num_buckets))
                rows += len(table)
            file.facts["rows"] = rows
        return rows


@dataclass(frozen=True)
class OrderQueries:
    """The rows of a bucket of queries in their order, and which documents they need, by the bucket of those."""

    work: Work
    num_pieces: int
    """Of the run."""
    order: Order
    depth: int | None
    drop_identical: bool

    def __call__(self, bucket: int) -> int:
        work = self.work
        tables = [table for number in range(self.num_pieces) for table in work.open("run", number).tables(bucket)]
        rows = pa.concat_tables([run_schema(self.order).empty_table(), *tables])
        del tables
        kept = keep(rows, self.order, depth=self.depth, drop_identical=self.drop_identical)
        hashes = np.unique(id_hashes(kept.rows["doc_id"]))
        with new_bucket_file(work.folder, file_name("order", bucket)) as file:
            file.add(pa.table({"hash": hashes}), buckets_of(hashes, work.document_buckets))
            file.write(work.document_buckets, kept.rows)
            file.facts.update(
                rows=len(rows),
                kept=len(kept.rows),
                repeated=kept.repeated,
                identical=kept.identical,
                cut=kept.cut,
            )
        return len(rows)
