"""The texts of a unit, each once, and their hashes: what tells a pair from all others, in any run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from reranker_batch.core.memo import MEMO_DTYPE, KeyArray, MemoRows
from reranker_batch.core.ragged import LongArray, runs_of
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

    def keys(self, list_at: LongArray | None = None) -> MemoRows:
        """A row for each candidate with the hashes of its texts and nothing else.

        `list_at` is for a listwise model: neighbours with equal numbers are candidates of one query. Instead of the
        query's hash a row then has that of the query with all its candidates, and instead of the document's its place
        among them.
        """
        queries, documents = text_keys(self.queries)[self.query_at], text_keys(self.documents)[self.document_at]
        if list_at is not None:
            queries, documents = _list_keys(queries, documents, list_at)
        rows = np.zeros(len(self.query_at), MEMO_DTYPE)
        rows["q0"], rows["q1"] = queries[:, 0], queries[:, 1]
        rows["d0"], rows["d1"] = documents[:, 0], documents[:, 1]
        return rows

    def subset(self, candidates: LongArray) -> UnitTexts:
        """The texts of these candidates alone, in the same order."""
        queries, query_at = np.unique(self.query_at[candidates], return_inverse=True)
        documents, document_at = np.unique(self.document_at[candidates], return_inverse=True)
        texts = self.queries.take(pa.array(queries)), self.documents.take(pa.array(documents))
        return UnitTexts(*texts, query_at, document_at)


def _list_keys(queries: KeyArray, documents: KeyArray, list_at: LongArray) -> tuple[KeyArray, KeyArray]:
    """Hashes of whole lists and places in them; the arguments have a row for each candidate."""
    starts, counts = runs_of(list_at)
    digests = [
        hashlib.blake2b(
            queries[start].astype("<u8").tobytes() + documents[start : start + count].astype("<u8").tobytes(),
            digest_size=_DIGEST_BYTES,
        ).digest()
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
    ]
    places = np.zeros((len(list_at), 2), dtype=np.uint64)
    places[:, 0] = np.arange(len(list_at)) - np.repeat(starts, counts)
    return _halves(digests)[np.repeat(np.arange(len(starts)), counts)], places


def text_keys(texts: pa.Array) -> KeyArray:
    """BLAKE2b-128 of the UTF-8 bytes of each text. The texts are not copied; there are no nulls among them."""
    large = texts if pa.types.is_large_string(texts.type) else texts.cast(pa.large_string())
    if not len(large):
        return _halves([])
    _, offsets, content = large.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[large.offset : large.offset + len(large) + 1].tolist()
    data, blake2b = memoryview(content if content is not None else b""), hashlib.blake2b
    digests = [blake2b(data[start:stop], digest_size=_DIGEST_BYTES).digest() for start, stop in pairwise(bounds)]
    return _halves(digests)


def _halves(digests: list[bytes]) -> KeyArray:
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 2)
