"""The texts of documents on their way to the buckets of the queries that need them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from reranker_batch.core.buckets import HashArray, id_hashes
from reranker_batch.core.ragged import IntArray, LongArray, positions_of
from reranker_batch.preparing.joining.sources import TEXT_SCHEMA, TextTable
from reranker_batch.preparing.work import Work, file_name
from reranker_batch.storage.files.bucketed import new_bucket_file
from reranker_batch.storage.tables.pieces import Piece

ROUTED_SCHEMA = TEXT_SCHEMA.append(pa.field("is_counted", pa.bool_()))
"""`is_counted` in one of the buckets that a text goes to."""


@dataclass(frozen=True)
class WantedDocuments:
    """Hashes of the documents that are needed, ascending, and which bucket of queries needs each."""

    hashes: HashArray
    buckets: IntArray

    @classmethod
    def of(cls, per_bucket: list[HashArray]) -> WantedDocuments:
        """`per_bucket[i]` has what bucket `i` needs, each once."""
        hashes = np.concatenate(per_bucket) if per_bucket else np.empty(0, np.uint64)
        numbers = np.arange(len(per_bucket), dtype=np.int32)
        buckets = np.repeat(numbers, [len(each) for each in per_bucket])
        order = np.argsort(hashes, kind="stable")  # buckets of a document ascend
        return cls(hashes[order], buckets[order])

    def routes(self, hashes: HashArray) -> tuple[LongArray, LongArray, LongArray]:
        """For all needs of these documents: the document, the bucket, and which need of the document it is."""
        starts = np.searchsorted(self.hashes, hashes, side="left").astype(np.int64)
        lengths = np.searchsorted(self.hashes, hashes, side="right") - starts
        documents = np.repeat(np.arange(len(hashes), dtype=np.int64), lengths)
        places = positions_of(starts, lengths)
        return documents, self.buckets[places].astype(np.int64), places - starts[documents]


@dataclass(frozen=True)
class RouteTexts:
    """Documents of a piece of the corpus, or of one of its buckets, by the buckets of the queries that need them.

    Those that no query needs are left out. The item is the number of a piece and the piece, or of a bucket and None.
    """

    work: Work
    source: TextTable
    num_pieces: int
    """Of the corpus."""

    def __call__(self, item: tuple[int, Piece | None]) -> int:
        number, piece = item
        wanted = _wanted(self.work, 0 if piece is not None else number)
        rows = routed = 0
        with new_bucket_file(self.work.folder, file_name("texts", number)) as file:
            for table in self._tables(number, piece):
                rows += len(table)
                documents, buckets, which = wanted.routes(id_hashes(table["id"]))
                routed += int((which == 0).sum())
                if len(documents):
                    texts = table.take(pa.array(documents)).append_column("is_counted", pa.array(which == 0))
                    file.add(texts, buckets)
            file.facts.update(rows=rows, routed=routed)
        return rows

    def _tables(self, number: int, piece: Piece | None) -> Iterator[pa.Table]:
        if piece is not None:
            yield from self.source.read(number, piece)
            return
        for at in range(self.num_pieces):
            yield from self.work.open("corpus", at).tables(number)


@lru_cache(maxsize=1)
def _wanted(work: Work, bucket: int) -> WantedDocuments:
    """What the queries need of a bucket of documents."""
    return WantedDocuments.of([_hashes(work, number, bucket) for number in range(work.num_ranges)])


def _hashes(work: Work, number: int, bucket: int) -> HashArray:
    tables = [*work.open("order", number).tables(bucket)]
    return np.concatenate([np.empty(0, np.uint64), *(table["hash"].to_numpy() for table in tables)])
