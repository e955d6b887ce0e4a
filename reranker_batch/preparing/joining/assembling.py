"""The last stage: the candidates of a bucket of queries with their texts, as a part of prepared input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa

from reranker_batch.core.pair_texts import DistinctTexts
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.preparing.joining.lookup import Duplicate, Lookup
from reranker_batch.preparing.joining.ordering import query_starts
from reranker_batch.preparing.joining.sources import TextTable
from reranker_batch.preparing.work import Stage, Work, file_name, part_name
from reranker_batch.printing import listed
from reranker_batch.storage.files.bucketed import STAGING, new_bucket_file
from reranker_batch.storage.prepared import publish_table
from reranker_batch.storage.tables.pieces import Piece

OnMissing = Literal["dead_letter", "drop", "fail"]
REFERENCE = b"reference"
CANDIDATE = pa.struct(
    [
        ("doc_id", pa.large_string()),
        ("text", pa.large_string()),
        ("score", pa.float64()),
        ("rank", pa.int32()),
    ]
)
PREPARED_SCHEMA = pa.schema(
    [("query_id", pa.large_string()), ("query", pa.large_string()), ("candidates", pa.large_list(CANDIDATE))]
)
MISSING_SCHEMA = pa.schema(
    [("problem", pa.large_string()), ("query_id", pa.large_string()), ("doc_id", pa.large_string())]
)
"""A row for each candidate without a text, and for each row of a source whose id was there before."""
PART_COUNTS = (
    "queries",
    "candidates",
    "missing_queries",
    "missing_documents",
    "duplicate_queries",
    "duplicate_documents",
)
"""Of `RowCounts`, what each part adds."""
_PASS_BYTES = 16 << 20
"""Texts in memory at once; a query is never cut."""
_GROUP_BYTES = 8 << 20
_GROUP_ROWS = 16_384
"""Candidates of a row group."""


@dataclass(frozen=True)
class Texts:
    """A source of texts and the pieces in which it was read."""

    table: TextTable
    pieces: tuple[Piece, ...]

    def twice(self, text_id: str, duplicate: Duplicate) -> InputError:
        """That an id is there twice, and where."""
        places = [self.table.place(self.pieces[piece], row) for piece, row in (duplicate.first, duplicate.second)]
        return InputError(
            f"prepare.{self.table.kind}: the id {text_id!r} is there twice: {places[0]}, and {places[1]}. Remove one, "
            "or set prepare.on_duplicate_id: first, which takes the first."
        )


@dataclass(frozen=True)
class AssembleQueries:
    """Write the part of a bucket of queries, and before it the list of what is missing there."""

    work: Work
    queries: Texts
    corpus: Texts
    num_texts: int
    """Files of routed documents."""
    on_missing: OnMissing
    fail_on_duplicates: bool

    def __call__(self, bucket: int) -> int:
        work = self.work
        tables = [*work.open("order", bucket).tables(work.document_buckets)]
        rows = pa.concat_tables(tables).combine_chunks()
        asked, needed = DistinctTexts.of(rows["query_id"]), DistinctTexts.of(rows["doc_id"])
        queries = self._lookup("queries", len(self.queries.pieces), bucket, asked.texts)
        documents = self._lookup("texts", self.num_texts, bucket, needed.texts)
        bucketed = _Bucket(rows, asked.at, needed.at, queries, documents)
        self._refuse(bucketed)
        with new_bucket_file(work.folder, file_name("missing", bucket)) as file:
            file.write(0, bucketed.problems())
            file.facts.update(bucketed.counts())
        if self.on_missing == "drop":
            bucketed = bucketed.without_missing()
        staging = work.folder.folder(STAGING)
        groups = bucketed.row_groups()
        return publish_table(work.goal, staging, part_name(bucket), PREPARED_SCHEMA, groups, kind=REFERENCE)

    def _lookup(self, stage: Stage, num_files: int, bucket: int, wanted: pa.Array) -> Lookup:
        return Lookup([self.work.open(stage, number) for number in range(num_files)], bucket, wanted)

    def _refuse(self, bucket: _Bucket) -> None:
        if self.fail_on_duplicates:
            for source, lookup in ((self.queries, bucket.queries), (self.corpus, bucket.documents)):
                for duplicate in lookup.duplicates[:1]:
                    raise source.twice(_shown(lookup.wanted, duplicate.at), duplicate)
        if self.on_missing == "fail":
            for kind, lookup in (("queries", bucket.queries), ("corpus", bucket.documents)):
                missing = np.flatnonzero(~lookup.is_there)
                if len(missing):
                    shown = listed([repr(_shown(lookup.wanted, int(at))) for at in missing], most=3)
                    raise InputError(
                        f"prepare.{kind} has no text for ids of the run: {shown}. Add them, or set prepare.on_missing: "
                        "dead_letter, which lists them and goes on."
                    )


@dataclass(frozen=True)
class _Bucket:
    """Ordered rows of some queries, and where the texts of each are."""

    rows: pa.Table
    query_at: LongArray
    document_at: LongArray
    queries: Lookup
    documents: Lookup

    @property
    def lacks_query(self) -> BoolArray:
        return np.asarray(~self.queries.is_there[self.query_at], dtype=np.bool_)

    @property
    def lacks_document(self) -> BoolArray:
        return np.asarray(~self.documents.is_there[self.document_at] & ~self.lacks_query, dtype=np.bool_)

    def counts(self) -> dict[str, int]:
        return {
            "queries": len(query_starts(self.rows["query_id"])),
            "queries_with_text": int(self.queries.is_there.sum()),
            "candidates": len(self.rows) - int(self.lacks_query.sum()) - int(self.lacks_document.sum()),
            "missing_queries": int(self.lacks_query.sum()),
            "missing_documents": int(self.lacks_document.sum()),
            "duplicate_queries": len(self.queries.duplicates),
            "duplicate_documents": len(self.documents.duplicates),
        }

    def problems(self) -> pa.Table:
        """The rows of `MISSING_SCHEMA`."""
        tables = [
            self._missing("missing_query", self.lacks_query),
            self._missing("missing_document", self.lacks_document),
            _doubled("duplicate_query", "query_id", self.queries),
            _doubled("duplicate_document", "doc_id", self.documents),
        ]
        return pa.concat_tables(tables)

    def _missing(self, problem: str, is_missing: BoolArray) -> pa.Table:
        rows = self.rows.select(["query_id", "doc_id"]).filter(pa.array(is_missing))
        return pa.table([_constant(problem, len(rows)), *rows.columns], schema=MISSING_SCHEMA)

    def without_missing(self) -> _Bucket:
        is_kept = ~(self.lacks_query | self.lacks_document)
        rows = self.rows.filter(pa.array(is_kept)).combine_chunks()
        return _Bucket(rows, self.query_at[is_kept], self.document_at[is_kept], self.queries, self.documents)

    def row_groups(self) -> Iterator[pa.Table]:
        """The rows of the part, a table for each row group; at least one."""
        starts = query_starts(self.rows["query_id"])
        sizes = self.documents.bytes[self.document_at]
        stops = np.concatenate([starts[1:], [len(sizes)]]) if len(starts) else starts
        before = np.concatenate([[0], np.cumsum(sizes)])
        weights = before[stops] - before[starts] + self.queries.bytes[self.query_at[starts]]
        if not len(starts):
            yield PREPARED_SCHEMA.empty_table()
        for first, last in _runs(weights, _PASS_BYTES):
            texts = self.documents.texts(self.document_at[starts[first] : stops[last - 1]])
            for start, stop in self._groups(weights[first:last], (stops - starts)[first:last]):
                begin = starts[first + start]
                of_group = texts.slice(begin - starts[first], stops[first + stop - 1] - begin)
                yield self._nested(starts[first + start : first + stop], int(stops[first + stop - 1]), of_group)

    def _groups(self, weights: LongArray, candidates: LongArray) -> Iterator[tuple[int, int]]:
        shares = weights * (_GROUP_ROWS / _GROUP_BYTES)
        yield from _runs(np.maximum(shares.astype(np.int64), candidates), _GROUP_ROWS)

    def _nested(self, starts: LongArray, stop: int, texts: pa.Array) -> pa.Table:
        begin = int(starts[0])
        rows = self.rows.slice(begin, stop - begin)
        doc_id, score, rank = (_one(rows[name]) for name in ("doc_id", "score", "rank"))
        candidates = pa.StructArray.from_arrays([doc_id, texts, score, rank], fields=list(CANDIDATE))
        offsets = pa.array(np.concatenate([starts - begin, [stop - begin]]))
        ids = self.rows["query_id"].take(pa.array(starts))
        queries = self.queries.texts(self.query_at[starts])
        lists = pa.LargeListArray.from_arrays(offsets, candidates)
        return pa.table([ids, queries, lists], schema=PREPARED_SCHEMA)


def _runs(weights: LongArray, limit: int) -> Iterator[tuple[int, int]]:
    """Neighbours that weigh about `limit` together."""
    before = np.concatenate([[0], np.cumsum(weights)[:-1]]) if len(weights) else weights
    bounds = [*np.flatnonzero(np.diff(before // limit, prepend=-1)).tolist(), len(weights)]
    yield from pairwise(bounds)


def _doubled(problem: str, column: str, lookup: Lookup) -> pa.Table:
    ids = lookup.wanted.take(pa.array([duplicate.at for duplicate in lookup.duplicates], pa.int64()))
    nulls = pa.nulls(len(ids), pa.large_string())
    both = [ids, nulls] if column == "query_id" else [nulls, ids]
    return pa.table([_constant(problem, len(ids)), *both], schema=MISSING_SCHEMA)


def _constant(text: str, length: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.large_string()), length)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _shown(ids: pa.Array, at: int) -> str:
    value: bytes = ids.slice(at, 1).cast(pa.large_binary())[0].as_py()
    return value[:200].decode(errors="replace")
