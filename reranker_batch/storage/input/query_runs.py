"""Where queries begin in the pairs layout, and whether a query appears in two places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from reranker_batch.config import Columns
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import FileIdentity
from reranker_batch.errors import InputError
from reranker_batch.storage.files.filesystem import join
from reranker_batch.storage.input.footers import open_parquet
from reranker_batch.storage.input.origin import Origin
from reranker_batch.storage.input.partitions import Partitions, constant_column
from reranker_batch.storage.values import conform, id_strings

HashArray = npt.NDArray[np.uint64]
Key = tuple[str, str | None]
"""What tells queries apart ("query id" or "query text"), and its value."""

_BATCH_ROWS = 32_768
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class QueryRuns:
    """The queries of one file, in order: runs of rows with one query id.

    `starts[i]` is the first row of query `i`, `hashes[i]` 64 bits of what identifies it; `is_named[i]` is False
    where nothing does, so that it cannot come back.
    """

    starts: LongArray
    hashes: HashArray
    is_named: BoolArray


@dataclass(frozen=True)
class KeyColumns:
    """The columns of a file that tell its queries apart; `constants` are those that its folders have in their names."""

    names: Columns
    constants: Partitions
    has_null_ids: bool

    def kind(self, parquet: pq.ParquetFile) -> str:
        known = self.names.query_id in self.constants or self.names.query_id in parquet.schema_arrow.names
        return "query id" if known else "query text"

    def batches(self, parquet: pq.ParquetFile, *, with_texts: bool) -> Iterator[tuple[pa.Array, pa.Array | None]]:
        """The keys, and the texts of the queries where they are needed to tell those without an id apart."""
        is_id = self.kind(parquet) == "query id"
        key = str(self.names.query_id) if is_id else self.names.query
        columns = [key, self.names.query] if is_id and with_texts else [key]
        stored = [name for name in columns if name not in self.constants]
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=stored, use_threads=False):
            values = [self._values(batch, name) for name in columns]
            yield id_strings(values[0]), conform(values[1], pa.large_string()) if len(values) > 1 else None

    def _values(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        if name in self.constants:
            return constant_column(self.constants[name], batch.num_rows)
        return batch.column(name)


def begins_query(ids: pa.Array | None, texts: pa.Array | None) -> BoolArray:
    """Whether each row begins a query, compared with the row before it; the first row does.

    Without an id column, and among neighbours without an id, equal text is one query. `texts` may be left out
    where every row has an id.
    """
    values = ids if ids is not None else texts
    assert values is not None
    begins = np.ones(len(values), dtype=np.bool_)
    begins[1:] = _differs(values)
    if ids is not None and texts is not None and ids.null_count:
        is_null = ids.is_null().to_numpy(zero_copy_only=False)
        begins[1:] |= is_null[1:] & is_null[:-1] & _differs(texts)
    return begins


def scan_queries(filesystem: fs.FileSystem, path: str, identity: FileIdentity, keys: KeyColumns) -> QueryRuns:
    """Stream the id column of a file (and the query text where ids are missing).

    Raises:
        InputError: The file cannot be read, or is not the one of `identity`.
    """
    with open_parquet(filesystem, path, identity) as opened:
        batches = keys.batches(opened.parquet, with_texts=keys.has_null_ids)
        return _join([*_runs(batches, keys.kind(opened.parquet))])


def refuse_returning(
    files: Sequence[tuple[str, QueryRuns]],
    read_key: Callable[[str, int], Key],
    *,
    sort_by: str,
    origins: Mapping[str, Origin] = MappingProxyType({}),
) -> None:
    """Check that every query stands in one place.

    Hashes are compared first; `read_key` gives the real value at a file and row, to confirm a hit. `origins` tell
    where the rows of files came from.

    Raises:
        InputError: Names the first query that comes back and both places.
    """
    hashes = np.concatenate([np.empty(0, np.uint64), *(runs.hashes[runs.is_named] for _, runs in files)])
    hashes.sort()
    if not (hashes[1:] == hashes[:-1]).any():
        return
    for earlier, later in _suspects(files):
        key = read_key(*later)
        if match := next((place for place in earlier if read_key(*place) == key), None):
            raise InputError(_returning_message(key, _source(match, origins), _source(later, origins), sort_by))


def key_reader(
    filesystem: fs.FileSystem, folder: str, files: Mapping[str, tuple[FileIdentity, KeyColumns]]
) -> Callable[[str, int], Key]:
    """A function that reads the key of the query at a row of a file."""

    def read_key(file: str, row: int) -> Key:
        identity, columns = files[file]
        with open_parquet(filesystem, join(folder, file), identity) as opened:
            for keys, _ in columns.batches(opened.parquet, with_texts=False):
                if row < len(keys):
                    return columns.kind(opened.parquet), _shown_key(keys[row])
                row -= len(keys)
        raise InputError(f"{file} ends before its row {row}: its footer is damaged.")

    return read_key


def _shown_key(key: pa.Scalar) -> str:
    return str(key.cast(pa.large_binary()).as_py().decode(errors="replace"))


def _runs(batches: Iterator[tuple[pa.Array, pa.Array | None]], kind: str) -> Iterator[QueryRuns]:
    """The queries that begin in each batch; its first row is compared with the last row of the batch before."""
    row = 0
    last: tuple[pa.Array, pa.Array | None] | None = None
    for keys, texts in batches:
        if last is None:
            begins = begins_query(keys, texts)
        else:
            texts_before = None if texts is None else pa.concat_arrays([last[1], texts])
            begins = begins_query(pa.concat_arrays([last[0], keys]), texts_before)[1:]
        starts = np.flatnonzero(begins)
        first_keys = keys.take(pa.array(starts))
        yield QueryRuns(starts + row, _hashes(first_keys, kind), first_keys.is_valid().to_numpy(zero_copy_only=False))
        last = _last_row(keys), None if texts is None else _last_row(texts)
        row += len(keys)


def _last_row(values: pa.Array) -> pa.Array:
    return values.take(pa.array([len(values) - 1]))


def _join(pieces: list[QueryRuns]) -> QueryRuns:
    return QueryRuns(
        np.concatenate([np.empty(0, np.int64), *(piece.starts for piece in pieces)]),
        np.concatenate([np.empty(0, np.uint64), *(piece.hashes for piece in pieces)]),
        np.concatenate([np.empty(0, np.bool_), *(piece.is_named for piece in pieces)]),
    )


def _hashes(keys: pa.Array, kind: str) -> HashArray:
    """As bytes, because polars takes no string that is not valid UTF-8."""
    import polars as pl  # takes 300 MB of addresses, which a process that only reads rows can do without

    series = pl.Series(values=pl.from_arrow(keys.cast(pa.large_binary())), dtype=pl.Binary)
    return series.hash(seed=len(kind)).to_numpy()


def _differs(values: pa.Array) -> BoolArray:
    """Whether each value after the first differs from the one before it; nulls are equal to each other."""
    before, after = values.slice(0, max(len(values) - 1, 0)), values.slice(1)
    unequal = pc.not_equal(before, after).fill_null(False).to_numpy(zero_copy_only=False)
    if not values.null_count:
        return np.asarray(unequal)
    is_null = values.is_null().to_numpy(zero_copy_only=False)
    return np.asarray(unequal | (is_null[1:] != is_null[:-1]))


def _suspects(files: Sequence[tuple[str, QueryRuns]]) -> Iterator[tuple[list[tuple[str, int]], tuple[str, int]]]:
    """Places whose hash was seen before, in input order, each with the earlier places of that hash."""
    rows = np.concatenate([runs.starts[runs.is_named] for _, runs in files])
    hashes = np.concatenate([runs.hashes[runs.is_named] for _, runs in files])
    owners = np.repeat(np.arange(len(files)), [int(runs.is_named.sum()) for _, runs in files])

    def place(position: int) -> tuple[str, int]:
        return files[owners[position]][0], int(rows[position])

    order = np.argsort(hashes, kind="stable")
    is_repeat = np.concatenate([[False], hashes[order[1:]] == hashes[order[:-1]]])
    first_of_group = np.maximum.accumulate(np.where(is_repeat, 0, np.arange(len(order))))
    repeats = np.flatnonzero(is_repeat)
    for at in repeats[np.argsort(order[repeats])]:
        yield [place(int(position)) for position in order[first_of_group[at] : at]], place(int(order[at]))


def _source(place: tuple[str, int], origins: Mapping[str, Origin]) -> tuple[str, int]:
    file, row = place
    origin = origins.get(file)
    return place if origin is None else (origin.file, origin.first_row + row)


def _returning_message(key: Key, first: tuple[str, int], again: tuple[str, int], sort_by: str) -> str:
    kind, value = key
    shown = repr(value if value is None or len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…")
    return (
        f"The {kind} {shown} of row {first[1]} in {first[0]} comes back at row {again[1]} in {again[0]}. With "
        f"input.layout: pairs all rows of a query must stand together in one file. Sort the input by {sort_by}, "
        "give different queries different ids, or name the input in prepare.run in place of input.path: it groups rows "
        "in any order."
    )
