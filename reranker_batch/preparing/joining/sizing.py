"""How many buckets a preparation has, from the sizes of its files and a sample of their rows."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.preparing.joining.sources import RunTable, TextTable
from reranker_batch.storage.tables.growth import unpacked_bytes
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import read_piece
from reranker_batch.storage.tables.table_files import TableFiles

_BUCKET_BYTES = 64 << 20
"""Texts of the candidates of a bucket of queries."""
_BUCKET_ROWS = 400_000
_DOCUMENT_ROWS = 3_000_000
"""Needs of documents that a task has in memory: 12 bytes each."""
MAX_BUCKETS = 4_096
_ROW_BYTES = 64
_SAMPLE_BYTES = 1 << 20


def buckets_for(run: RunTable, corpus: TextTable) -> tuple[int, int]:
    """Buckets of queries and of documents. Wrong by a factor of a few costs some memory or some files."""
    rows = estimated_rows(run)
    text_bytes = _mean_bytes(corpus)
    queries = math.ceil(max(rows * (text_bytes + _ROW_BYTES) / _BUCKET_BYTES, rows / _BUCKET_ROWS))
    return min(MAX_BUCKETS, max(1, queries)), max(1, math.ceil(rows / _DOCUMENT_ROWS))


def row_buckets_for(files: TableFiles) -> int:
    """Buckets of queries whose rows carry their texts."""
    return min(MAX_BUCKETS, max(1, math.ceil(unpacked_bytes(files) / _BUCKET_BYTES)))


def estimated_rows(run: RunTable) -> int:
    """Candidates of a run, from its first rows."""
    first = next(iter(pieces(run.files, _SAMPLE_BYTES)), None)
    if first is None:
        return 0
    raw = next(read_piece(run.files, first, ids=(run.query_id, run.doc_id)), None)
    rows = next(run.read(0, first), None)
    if raw is None or rows is None or not len(raw.table):
        return 0
    candidates = len(rows) / len(raw.table)
    return math.ceil(unpacked_bytes(run.files) / bytes_a_row(raw.table) * candidates)


def bytes_a_row(table: pa.Table) -> float:
    """As in a file of lines: without the offsets of strings, with a separator for each value."""
    values = table.num_columns * len(table)
    size: float = (table.nbytes - 7 * values) / len(table)
    return max(2.0, size)


def _mean_bytes(corpus: TextTable) -> float:
    for piece in pieces(corpus.files, _SAMPLE_BYTES):
        for table in corpus.read(0, piece):
            mean: float = pc.mean(pc.binary_length(table["text"])).as_py() or 0.0
            return mean
    return 0.0
