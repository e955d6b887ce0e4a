"""A part of the input, made ready to say beforehand what all of it will come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.mapping import in_threads
from reranker_batch.preparing.conversion.task import (
    STAGING,
    adapted,
    drop_staging,
    joined_rows,
    publish_rows,
)
from reranker_batch.preparing.joining.join import Sources
from reranker_batch.preparing.joining.rows import input_of
from reranker_batch.preparing.joining.sizing import bytes_a_row, estimated_rows
from reranker_batch.preparing.joining.sources import TEXT_SCHEMA, TextTable
from reranker_batch.preparing.preparation import Preparation
from reranker_batch.preparing.ready import Conversion
from reranker_batch.preparing.table.source import Source, pairs_source
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.prepared import publish_table
from reranker_batch.storage.tables.growth import unpacked_size
from reranker_batch.storage.tables.pieces import Piece, pieces
from reranker_batch.storage.tables.reading import read_piece

_WHOLE_BYTES = 16 << 20
"""What is smaller is joined or grouped as a whole."""
_QUERIES, _DOCUMENTS = 64, 16
"""Of a sample of a join: queries, and documents of each."""
_PIECE_BYTES = 1 << 20
_PLACES = 8
_MOST_BYTES = 4 << 20
"""Rows that are read of a piece, where it is one that cannot be cut."""


@dataclass(frozen=True)
class Sampled:
    """How much of an input was made ready."""

    scale: float
    """How many times as large the whole is."""
    is_whole: bool


def make_sample(making: Preparation | Conversion, goal: str) -> Sampled:
    """Write a part of prepared input to `goal`.

    Raises:
        ConfigError, InputError: What making all of it would refuse, as far as the part shows it.
        CommitError: A part cannot be written.
    """
    if isinstance(making, Conversion):
        return convert_sample(making.source, goal)
    if making.size_bytes() <= _WHOLE_BYTES:
        replace(making, goal=goal).run(in_threads)
        return Sampled(1.0, is_whole=True)
    if making.config.has_texts:
        return _group_sample(pairs_source(input_of(making.config, making.source)), goal)
    return _join_sample(Sources.of(making.config), goal)


def _group_sample(source: Source, goal: str) -> Sampled:
    """Rows of some pieces, those of a query together."""
    sample = _Sample(source)
    tables = [table for piece in _spread(pieces(source.files, _PIECE_BYTES)) for table in sample.rows(piece)]
    rows = joined_rows(tables) if tables else None
    if rows is not None:
        key = "query_id" if "query_id" in rows.column_names else "query"
        rows = rows.take(pc.sort_indices(rows[key]))
    publish_rows(Folder.at(goal), 0, iter([] if rows is None else [rows]), source.adaption)
    drop_staging(Folder.at(goal))
    return sample.sampled


def _join_sample(sources: Sources, goal: str) -> Sampled:
    """Some queries, each with some documents, whether or not the run has these pairs: they show how long texts are."""
    queries, documents = _texts(sources.queries, _QUERIES), _texts(sources.corpus, _QUERIES * _DOCUMENTS)
    count = _DOCUMENTS if len(queries) and len(documents) else 0
    at = np.arange(len(queries) * count, dtype=np.int64) % max(len(documents), 1)
    inner = pa.StructArray.from_arrays(
        [documents[name].take(pa.array(at)).combine_chunks() for name in ("id", "text")], ["doc_id", "text"]
    )
    offsets = pa.array(np.arange(len(queries) + 1, dtype=np.int64) * count)
    table = pa.table(
        {
            "query_id": queries["id"],
            "query": queries["text"],
            "candidates": pa.LargeListArray.from_arrays(offsets, inner),
        }
    )
    folder = Folder.at(goal)
    publish_table(folder, folder.folder(STAGING), "part-000000.parquet", table.schema, [table], kind=b"reference")
    drop_staging(folder)
    return Sampled(max(1.0, estimated_rows(sources.run) / max(len(at), 1)), is_whole=False)


def _texts(table: TextTable, most: int) -> pa.Table:
    """Some rows from several places of a table of texts."""
    cut = _spread(pieces(table.files, _PIECE_BYTES))
    tables = [next(table.read(0, piece), TEXT_SCHEMA.empty_table()).slice(0, most // len(cut) + 1) for piece in cut]
    return pa.concat_tables(tables).slice(0, most)


def convert_sample(source: Source, goal: str) -> Sampled:
    """Convert pieces spread over a table.

    Raises:
        InputError: A row cannot be used. Names file and row.
        CommitError: A part cannot be written.
    """
    sample = _Sample(source)
    for number, neighbours in enumerate(_neighbours(_spread(pieces(source.files, _PIECE_BYTES)))):
        tables = (table for piece in neighbours for table in sample.rows(piece))
        is_known = source.adaption.layout == "pairs" and neighbours[0].start == 0
        file = source.files.files[neighbours[0].file_index].path if is_known else None
        publish_rows(Folder.at(goal), number, tables, source.adaption, file)
    drop_staging(Folder.at(goal))
    return sample.sampled


def _spread(cut: Sequence[Piece]) -> list[Piece]:
    """Pieces from all over a table."""
    return [cut[at] for at in sorted({len(cut) * place // _PLACES for place in range(_PLACES)})]


@dataclass
class _Sample:
    """Reads pieces as far as they are needed, and counts what it reads: rows of Parquet, bytes of other files."""

    source: Source
    read: float = 0.0
    num_whole: int = 0
    """Pieces that were read to their ends."""

    def rows(self, piece: Piece) -> Iterator[pa.Table]:
        source, adaption = self.source, self.source.adaption
        num_rows, num_bytes, is_whole = 0, 0.0, True
        for raw in read_piece(source.files, piece, None, adaption.ids):
            if num_bytes >= _MOST_BYTES:
                is_whole = False
                break
            num_rows += len(raw.table)
            num_bytes += bytes_a_row(raw.table) * len(raw.table)
            yield adapted(raw, source)
        seen = num_rows if source.files.form == "parquet" else num_bytes
        self.read += self.size_of(piece) if is_whole else seen
        self.num_whole += is_whole

    @property
    def sampled(self) -> Sampled:
        cut = pieces(self.source.files, _PIECE_BYTES)
        if self.num_whole == len(cut):
            return Sampled(1.0, is_whole=True)
        total = sum(self.size_of(piece) for piece in cut)
        return Sampled(max(1.0, total / self.read) if self.read else 1.0, is_whole=False)

    def size_of(self, piece: Piece) -> float:
        """In rows or bytes, as in `read`."""
        if piece.stop is not None:
            return piece.stop - piece.start
        return unpacked_size(self.source.files, piece.file_index)


def _neighbours(chosen: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces that follow each other in a file together, so that a query which goes on in the next stays whole."""
    group: list[Piece] = []
    for piece in chosen:
        if group and (group[-1].file_index, group[-1].stop) != (piece.file_index, piece.start):
            yield group
            group = []
        group.append(piece)
    yield group
