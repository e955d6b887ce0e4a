"""What says how relevant candidates are: qrels, a column of the input, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.config.labels import PositivesConfig
from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.errors import InputError
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.qrels import QRELS, read_qrels
from reranker_batch.storage.values import list_lengths, list_values, one_chunk

_SEEDS = 64
_MIX = np.uint64(0x9E3779B97F4A7C15)

HashArray = npt.NDArray[np.uint64]


class Judgments(Protocol):
    """What says how relevant candidates are."""

    @property
    def identity(self) -> str:
        """Equal for equal judgments."""

    def of(self, rows: UnitRows) -> tuple[LongArray, BoolArray]:
        """The relevance of each row of `candidates`, and whether it is judged at all.

        Raises:
            InputError: A value is no relevance.
        """


@dataclass(frozen=True)
class Unjudged:
    """Nothing is known."""

    identity = "none"

    def of(self, rows: UnitRows) -> tuple[LongArray, BoolArray]:
        return np.zeros(len(rows.candidates), np.int64), np.zeros(len(rows.candidates), np.bool_)


@dataclass(frozen=True)
class ColumnJudgments:
    """A passthrough column of the candidates, or of the queries with a list of as many values; null is not judged."""

    name: str

    @property
    def identity(self) -> str:
        return f"column {self.name}"

    def of(self, rows: UnitRows) -> tuple[LongArray, BoolArray]:
        try:
            values = self._values(rows).cast(pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"labels.positives.column: {self.name} has a value that is no relevance: {error}. Whole numbers, or "
                "true and false, are expected."
            ) from None
        judged = values.is_valid().to_numpy(zero_copy_only=False)
        return pc.fill_null(values, 0).to_numpy().astype(np.int64), judged

    def _values(self, rows: UnitRows) -> pa.Array:
        """The value of each row of `candidates`."""
        if self.name in rows.candidates.column_names:
            column = rows.candidates[self.name]
            return one_chunk(column.chunks, column.type)
        column = rows.queries[self.name]
        lists = one_chunk(column.chunks, column.type)
        if not is_list_like(lists.type):
            raise InputError(
                f"labels.positives.column: {self.name} is a column of the queries, with one value for all candidates. "
                "A field of the candidates, a column of the pairs layout or of lists is expected."
            )
        self._require_lengths(rows, lists)
        query = rows.candidates["query_at"].to_numpy()
        at = offsets_of(list_lengths(lists))[query] + rows.candidates["index"].to_numpy()
        return list_values(lists).take(pa.array(at, mask=~lists.is_valid().to_numpy(zero_copy_only=False)[query]))

    def _require_lengths(self, rows: UnitRows, lists: pa.Array) -> None:
        """Raises InputError where a query has another number of values than of candidates."""
        dead = rows.dead_letters.filter(pc.is_valid(rows.dead_letters["index"]))
        query = np.concatenate([table["query_at"].to_numpy() for table in (rows.candidates, dead)])
        counts, lengths = np.bincount(query, minlength=len(lists)), list_lengths(lists)
        is_wrong = (counts != lengths) & (counts > 0) & lists.is_valid().to_numpy(zero_copy_only=False)
        if is_wrong.any():
            at = int(np.flatnonzero(is_wrong)[0])
            raise InputError(
                f"labels.positives.column: {self.name} of query {rows.queries['query_id'][at].as_py()!r} has "
                f"{lengths[at]} values for {counts[at]} candidates."
            )


@dataclass(frozen=True)
class Qrels:
    """Judgments by query id and document id, sorted by a hash of both."""

    table: pa.Table
    hashes: HashArray
    seed: int
    identity: str

    @classmethod
    def read(cls, path: str) -> Qrels:
        """Raises InputError or ConfigError as `read_qrels`."""
        table = read_qrels(path).sort_by([(name, "ascending") for name in ("query_id", "doc_id")])
        identity = fingerprint(
            {name: column.to_pylist() for name, column in zip(QRELS.names, table.columns, strict=True)}
        )
        for seed in range(_SEEDS):
            hashes = _hashes(table["query_id"], table["doc_id"], seed)
            order = np.argsort(hashes)
            if (np.diff(hashes[order].view(np.int64)) != 0).all():
                return cls(table.take(pa.array(order)).combine_chunks(), hashes[order], seed, identity)
        raise InputError(f"The qrels {path} cannot be indexed.")

    def of(self, rows: UnitRows) -> tuple[LongArray, BoolArray]:
        query_ids = rows.queries["query_id"].take(rows.candidates["query_at"])
        doc_ids = rows.candidates["doc_id"]
        at = np.searchsorted(self.hashes, _hashes(query_ids, doc_ids, self.seed))
        matched = self.table.take(pa.array(np.minimum(at, len(self.hashes) - 1)))
        is_same = pc.and_(pc.equal(matched["query_id"], query_ids), pc.equal(matched["doc_id"], doc_ids))
        judged = np.asarray(is_same.to_numpy(), np.bool_)
        return np.where(judged, matched["relevance"].to_numpy(), 0).astype(np.int64), judged


def _hashes(query_ids: pa.ChunkedArray, doc_ids: pa.ChunkedArray, seed: int) -> HashArray:
    queries, documents = (pl.Series(pl.from_arrow(ids)).hash(seed).to_numpy() for ids in (query_ids, doc_ids))
    mixed: HashArray = (queries * _MIX) ^ documents
    return mixed


def judgments_of(positives: PositivesConfig) -> Judgments:
    """Read what the config names.

    Raises:
        InputError, ConfigError: The qrels cannot be read.
    """
    if positives.qrels is not None:
        return Qrels.read(positives.qrels)
    return Unjudged() if positives.column is None else ColumnJudgments(positives.column)
