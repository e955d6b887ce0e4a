"""A part of a table, converted to say beforehand what all of it will come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa

from reranker_batch.preparing.adapter import RowPlaces, adapt
from reranker_batch.preparing.converting import Task, drop_staging, publish_rows, with_partitions
from reranker_batch.preparing.sizing import UNPACKED, bytes_a_row
from reranker_batch.preparing.source import Source
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.tables.pieces import Piece, pieces
from reranker_batch.storage.tables.reading import read_piece

_PIECE_BYTES = 1 << 20
_PLACES = 8
_MOST_BYTES = 4 << 20
"""Rows that are read of a piece, where it is one that cannot be cut."""


def convert_sample(source: Source, goal: str) -> float:
    """Convert pieces spread over a table; how many times as large the whole table is, 1 where all was converted.

    Raises:
        InputError: A row cannot be used. Names file and row.
        CommitError: A part cannot be written.
    """
    cut = pieces(source.files, _PIECE_BYTES)
    chosen = sorted({len(cut) * place // _PLACES for place in range(_PLACES)})
    sample = _Sample(source)
    for number, places in enumerate(_neighbours(chosen, cut)):
        tables = (table for at in places for table in sample.rows(cut[at]))
        publish_rows(Folder.at(goal), Task(number, (), ()), tables, source.adaption)
    drop_staging(Folder.at(goal))
    total = sum(sample.size_of(piece) for piece in cut)
    return max(1.0, total / sample.read) if sample.read else 1.0


@dataclass
class _Sample:
    """Reads pieces as far as they are needed, and counts what it reads: rows of Parquet, bytes of other files."""

    source: Source
    read: float = field(default=0.0)

    def rows(self, piece: Piece) -> Iterator[pa.Table]:
        source, adaption = self.source, self.source.adaption
        num_rows, num_bytes, is_whole = 0, 0.0, True
        for raw in read_piece(source.files, piece, None, adaption.ids):
            if num_bytes >= _MOST_BYTES:
                is_whole = False
                break
            num_rows += len(raw.table)
            num_bytes += bytes_a_row(raw.table) * len(raw.table)
            table = with_partitions(raw.table, source, raw.file)
            yield adapt(table, adaption, RowPlaces(raw.file, raw.numbers))
        seen = num_rows if source.files.form == "parquet" else num_bytes
        self.read += self.size_of(piece) if is_whole else seen

    def size_of(self, piece: Piece) -> float:
        """In rows or bytes, as in `read`."""
        if piece.stop is not None:
            return piece.stop - piece.start
        file = self.source.files.files[piece.file_index]
        return file.size_bytes * (1 if file.compression == "none" else UNPACKED)


def _neighbours(chosen: Sequence[int], cut: Sequence[Piece]) -> Iterator[list[int]]:
    """Pieces that follow each other in a file together, so that a query which goes on in the next stays whole."""
    keyed = ((at - order, cut[at].file_index, at) for order, at in enumerate(chosen))
    for _, group in groupby(keyed, key=lambda one: one[:2]):
        yield [at for _, _, at in group]
