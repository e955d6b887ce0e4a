"""The candidates of a unit of the input with what every teacher says about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.storage.values import one_chunk

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class UnitPlaces:
    """A slot for every candidate of a unit, good or bad, query by query and by index within a query."""

    unit: WorkUnit
    rows: LongArray
    """The row of the unit at which each query begins, ascending."""
    offsets: LongArray
    """The slots of query `i` are `offsets[i]` up to `offsets[i + 1]`."""
    scored_at: LongArray
    """The slots of the candidates that can be scored, in the order of `UnitRows.candidates`."""
    query_ids: pa.Array
    doc_ids: pa.Array
    """Of each slot; null where a candidate cannot be scored."""

    @classmethod
    def of(cls, unit: WorkUnit, rows: UnitRows) -> UnitPlaces:
        """Raises InputError where a candidate has no place of its own, which would be a mistake of ours."""
        num_queries = len(rows.queries)
        dead = rows.dead_letters.filter(pc.is_valid(rows.dead_letters["index"]))
        query = np.concatenate([table["query_at"].to_numpy() for table in (rows.candidates, dead)])
        index = np.concatenate([table["index"].to_numpy() for table in (rows.candidates, dead)])
        offsets = offsets_of(np.bincount(query, minlength=num_queries).astype(np.int64))
        slots = offsets[query] + index
        if len(np.unique(slots)) < len(slots) or (slots >= offsets[query + 1]).any():
            raise InputError(f"Candidates of {unit.shown} do not have a place each.", unit_id=unit.unit_id)
        scored_at = slots[: len(rows.candidates)]
        row_of = np.full(int(offsets[-1]), -1, np.int64)
        row_of[scored_at] = np.arange(len(scored_at))
        query_ids, doc_ids = (
            one_chunk(table[name].chunks, pa.large_string())
            for table, name in ((rows.queries, "query_id"), (rows.candidates, "doc_id"))
        )
        doc_ids = doc_ids.take(pa.array(row_of, mask=row_of < 0))
        return cls(unit, rows.queries["row"].to_numpy(), offsets, scored_at, query_ids, doc_ids)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def spread(self, values: npt.NDArray[Kind], missing: Any) -> npt.NDArray[Kind]:
        """Values of the candidates that can be scored, at their slots."""
        spread = np.full(len(self), missing, values.dtype)
        spread[self.scored_at] = values
        return spread

    @property
    def num_queries(self) -> int:
        return len(self.rows)

    @property
    def query(self) -> LongArray:
        """The query of each slot."""
        return np.repeat(np.arange(self.num_queries, dtype=np.int64), np.diff(self.offsets))

    @property
    def index(self) -> LongArray:
        """The place of each slot among the candidates of its query."""
        return np.arange(len(self), dtype=np.int64) - self.offsets[self.query]


@dataclass(frozen=True)
class Candidates:
    """A unit that is joined. All arrays have a value for each slot of `places`.

    logits: float32 of shape [teachers, slots], NaN for a dead letter.
    relevance, is_judged: of qrels or a column; zeros and False where there are none.
    """

    places: UnitPlaces
    rows: UnitRows
    logits: FloatArray
    relevance: LongArray
    is_judged: BoolArray

    @classmethod
    def of(
        cls, places: UnitPlaces, rows: UnitRows, logits: FloatArray, relevance: LongArray, is_judged: BoolArray
    ) -> Candidates:
        """From judgments of the candidates that can be scored."""
        return cls(places, rows, logits, places.spread(relevance, 0), places.spread(is_judged, False))

    @property
    def is_scored(self) -> BoolArray:
        """By all teachers."""
        return np.asarray(np.isfinite(self.logits).all(axis=0))

    def texts(self) -> LongArray:
        """A code for each document's text, equal for equal texts; -1 where there is none."""
        documents = one_chunk(self.rows.candidates["document"].chunks, pa.large_string())
        return self.places.spread(documents.dictionary_encode().indices.to_numpy().astype(np.int64), -1)

    def row_of(self) -> LongArray:
        """The row of `rows.candidates` of each slot, -1 where there is none."""
        return self.places.spread(np.arange(len(self.rows.candidates), dtype=np.int64), -1)
