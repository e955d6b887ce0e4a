"""The logits and dead letters of an output by their places in the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import IntArray, LongArray
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError
from reranker_batch.schema import canonical_type
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.parts import DEAD_LETTERS, SCORES, part_name
from reranker_batch.storage.values import list_lengths, list_values, one_chunk

_QUERY_COLUMNS = ["query_id", "file", "row"]
_DEAD_COLUMNS = ["file", "row", "index", "reason_code"]


@dataclass(frozen=True)
class Places:
    """Rows of the input: `file_at` is a position in `files`, `row` a row of that file."""

    files: tuple[str, ...]
    file_at: LongArray
    row: LongArray

    @classmethod
    def of(cls, table: pa.Table) -> Places:
        files = one_chunk(table["file"].chunks, pa.large_string()).dictionary_encode()
        return cls(
            tuple(files.dictionary.to_pylist()),
            files.indices.to_numpy().astype(np.int64),
            table["row"].to_numpy().astype(np.int64),
        )

    def rows_in(self, unit: WorkUnit) -> LongArray:
        """The row of `unit` for each of these, -1 for those outside."""
        spans = {span.file: at for at, span in enumerate(unit.spans)}
        at = np.array([spans.get(file, -1) for file in self.files], np.int64)[self.file_at]
        starts, stops = (
            np.array([getattr(span, name) for span in unit.spans], np.int64) for name in ("row_start", "row_stop")
        )
        is_inside = (at >= 0) & (self.row >= starts[at]) & (self.row < stops[at])
        return np.where(is_inside, unit.offsets[at] + self.row - starts[at], -1)


@dataclass(frozen=True)
class ScoredPlaces:
    """One part of the nested layout. `query[i]` is the position in `queries` of the query of candidate `i`."""

    queries: Places
    query_ids: pa.Array
    query: LongArray
    index: IntArray
    doc_ids: pa.Array
    logit: FloatArray


@dataclass(frozen=True)
class DeadPlaces:
    """The dead letters of one part. `index` is -1 where a row has no texts at all."""

    rows: Places
    index: LongArray


def read_scored_places(output: Folder, unit_id: str) -> ScoredPlaces:
    """Read the places, ids and logits of a part.

    Raises:
        CommitError: It cannot be read, or has no such columns.
    """
    paths = [f"results.list.element.{name}" for name in ("index", "doc_id", "logit")]
    table = _read(output, SCORES, unit_id, [*_QUERY_COLUMNS, *paths])
    lists = one_chunk(table["results"].chunks, canonical_type(table["results"].type))
    structs = list_values(lists)
    parents = np.repeat(np.arange(len(table), dtype=np.int64), list_lengths(lists))
    index, logit = (pc.struct_field(structs, name).to_numpy() for name in ("index", "logit"))
    doc_ids = pc.struct_field(structs, "doc_id").cast(pa.large_string())
    query_ids = one_chunk(table["query_id"].chunks, pa.large_string())
    return ScoredPlaces(Places.of(table), query_ids, parents, index, doc_ids, logit)


def read_logits(output: Folder, unit_id: str) -> FloatArray:
    """All logits of a part. Raises CommitError as `read_scored_places`."""
    table = _read(output, SCORES, unit_id, ["results.list.element.logit"])
    structs = list_values(one_chunk(table["results"].chunks, canonical_type(table["results"].type)))
    logits: FloatArray = pc.struct_field(structs, "logit").to_numpy()
    return logits


def read_dead_places(output: Folder, unit_id: str) -> DeadPlaces:
    """Read the places of the dead letters of a unit that has some.

    Raises:
        CommitError: They cannot be read.
    """
    table = _read(output, DEAD_LETTERS, unit_id, _DEAD_COLUMNS)
    return DeadPlaces(Places.of(table), pc.fill_null(table["index"], -1).to_numpy().astype(np.int64))


def _read(output: Folder, folder: str, unit_id: str, columns: Sequence[str]) -> pa.Table:
    path = output.child(folder, part_name(unit_id))

    def read() -> pa.Table:
        with output.filesystem.open_input_file(path) as source:
            return pq.ParquetFile(source, page_checksum_verification=True).read(columns=columns, use_threads=False)

    try:
        table = retried(read, f"Reading {path}")
    except (OSError, pa.ArrowException) as error:
        raise CommitError(f"{path} cannot be read: {error}", unit_id=unit_id) from error
    if missing := {column.partition(".")[0] for column in columns} - set(table.column_names):
        raise CommitError(f"{path} has no column {min(missing)}. Run its job again, into a new output.path.")
    return table
