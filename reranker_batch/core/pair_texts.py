"""The texts of a unit, each once, and their hashes: what tells a pair from all others, in any run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from reranker_batch.core.memo import MEMO_DTYPE, KeyArray, MemoRows
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.unit_rows import UnitRows

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class DistinctTexts:
    """The different texts of a column, and for each row the place of its text among them."""

    texts: pa.Array
    at: LongArray

    @classmethod
    def of(cls, column: pa.ChunkedArray | pa.Array) -> DistinctTexts:
        """The column has no nulls; texts come in the order in which they first appear."""
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if isinstance(whole, pa.ChunkedArray):  # a column of no chunks
            return cls(pa.array([], column.type), np.empty(0, dtype=np.int64))
        encoded = whole.dictionary_encode()
        return cls(encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64))


@dataclass(frozen=True)
class UnitTexts:
    """Queries and documents of the candidates of a unit, each distinct text once.

    `query_at` and `document_at` have shape [candidates]; queries without candidates are left out.
    """

    queries: pa.Array
    documents: pa.Array
    query_at: LongArray
    document_at: LongArray

    @classmethod
    def of(cls, rows: UnitRows) -> UnitTexts:
        query_of = rows.candidates["query_at"].to_numpy()
        used = np.unique(query_of)
        queries = DistinctTexts.of(rows.queries["query"].take(pa.array(used)))
        documents = DistinctTexts.of(rows.candidates["document"])
        return cls(queries.texts, documents.texts, queries.at[np.searchsorted(used, query_of)], documents.at)

    def keys(self) -> MemoRows:
        """A row for each candidate with the hashes of its texts and nothing else."""
        query, document = text_keys(self.queries), text_keys(self.documents)
        rows = np.zeros(len(self.query_at), MEMO_DTYPE)
        rows["q0"], rows["q1"] = query[self.query_at, 0], query[self.query_at, 1]
        rows["d0"], rows["d1"] = document[self.document_at, 0], document[self.document_at, 1]
        return rows

    def subset(self, candidates: LongArray) -> UnitTexts:
        """The texts of these candidates alone, in the same order."""
        queries, query_at = np.unique(self.query_at[candidates], return_inverse=True)
        documents, document_at = np.unique(self.document_at[candidates], return_inverse=True)
        texts = self.queries.take(pa.array(queries)), self.documents.take(pa.array(documents))
        return UnitTexts(*texts, query_at, document_at)


def text_keys(texts: pa.Array) -> KeyArray:
    """BLAKE2b-128 of the UTF-8 bytes of each text. The texts are not copied; there are no nulls among them."""
    large = texts if pa.types.is_large_string(texts.type) else texts.cast(pa.large_string())
    if not len(large):
        return np.empty((0, 2), dtype=np.uint64)
    _, offsets, content = large.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[large.offset : large.offset + len(large) + 1].tolist()
    data, blake2b = memoryview(content if content is not None else b""), hashlib.blake2b
    digests = [blake2b(data[start:stop], digest_size=_DIGEST_BYTES).digest() for start, stop in pairwise(bounds)]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 2)
