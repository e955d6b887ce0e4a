"""How a preparation is cut, from the sizes of its files and a sample of their rows."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.preparing.joining.sources import RunTable, TextTable
from reranker_batch.storage.tables.growth import unpacked_bytes
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import read_piece

RANGE_BYTES = 64 << 20
"""Candidates of a range of queries, with their texts."""
_RANGE_ROWS = 250_000
"""A task has memory for twice as many, since a sample tells where ranges begin."""
_DOCUMENT_ROWS = 3_000_000
"""Needs of documents that a task has in memory: 12 bytes each."""
_ROW_BYTES = 64
_SAMPLE_BYTES = 1 << 20


def row_bytes(corpus: TextTable) -> int:
    """A candidate with its text, judged by the first texts; at least as much as keeps the rows of a range few."""
    return max(math.ceil(_mean_bytes(corpus)) + _ROW_BYTES, RANGE_BYTES // _RANGE_ROWS)


def document_buckets(run: RunTable) -> int:
    """Wrong by a factor of a few costs some memory or some files."""
    return max(1, math.ceil(estimated_rows(run) / _DOCUMENT_ROWS))


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
