"""Rows of Parquet files, read as the rest of the package reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import Span
from reranker_batch.storage.input.footers import open_parquet
from reranker_batch.storage.input.source import canonical_batches
from reranker_batch.storage.tables.ids import with_text_ids
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.table_files import TableFiles

_BATCH_VALUES = 4_096
_BATCH_BYTES = 4 << 20


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
        for table in canonical_batches(opened, span, _batch_rows(opened.footer.metadata), columns):
            yield with_text_ids(table, ids, file.path), np.arange(first, first + len(table), dtype=np.int64)
            first += len(table)


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows that have about `_BATCH_VALUES` values in their longest column and `_BATCH_BYTES` according to the footer.

    A footer tells bytes before they are unpacked, so the number of values is looked at too: few bytes may hold many.
    """
    rows = _BATCH_VALUES
    for group in filter(lambda group: group.num_rows, map(metadata.row_group, range(metadata.num_row_groups))):
        num_values = max((group.column(at).num_values for at in range(group.num_columns)), default=0)
        rows = min(rows, group.num_rows * _BATCH_VALUES // max(1, num_values))
        rows = min(rows, group.num_rows * _BATCH_BYTES // max(1, group.total_byte_size))
    return max(1, rows)
