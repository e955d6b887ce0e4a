"""Rows of Parquet files, read as the rest of the package reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import Span
from reranker_batch.storage.input.footers import open_parquet
from reranker_batch.storage.input.source import canonical_batches
from reranker_batch.storage.tables.ids import with_text_ids
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.table_files import TableFiles

_BATCH_ROWS = 4_096


def parquet_batches(
    files: TableFiles, piece: Piece, wanted: Collection[str] | None, ids: Collection[str]
) -> Iterator[tuple[pa.Table, LongArray]]:
    """The rows of a piece in canonical types, and the number of each in the piece.

    Raises:
        InputError: See `open_parquet`; or an id is not one value.
    """
    file = files.files[piece.file_index]
    filesystem, path = files.place(piece.file_index)
    span = Span(piece.file_index, file.path, piece.start, piece.stop or 0, piece.identity)
    first = 0
    with open_parquet(filesystem, path, piece.identity) as opened:
        columns = None if wanted is None else dict.fromkeys(wanted)
        for table in canonical_batches(opened, span, _BATCH_ROWS, columns):
            yield with_text_ids(table, ids, file.path), np.arange(first, first + len(table), dtype=np.int64)
            first += len(table)
