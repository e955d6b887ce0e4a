"""Teachers' scores and the input joined by file, row and index, a unit of the input at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError
from reranker_batch.labels.candidates import Candidates, UnitPlaces
from reranker_batch.labels.judgments import Judgments
from reranker_batch.labels.teachers import Teacher
from reranker_batch.storage.input.source import InputSource
from reranker_batch.storage.output.scored_places import (
    DeadPlaces,
    ScoredPlaces,
    read_dead_places,
    read_scored_places,
)


@dataclass
class TeacherScores:
    """Reads the output of a teacher in the order of the input; keeps the parts of the last unit alone."""

    teacher: Teacher
    _parts: Mapping[str, tuple[ScoredPlaces, DeadPlaces | None]] = field(default_factory=dict)

    def logits(self, places: UnitPlaces) -> FloatArray:
        """The logit of each slot, NaN for a dead letter.

        Raises:
            CommitError: The output has no row, or two, for a candidate, a row for something that is none, or another
                id at a place: files of one size and one footer may have their rows in another order.
        """
        self._parts = {unit: self._parts.get(unit) or self._read(unit) for unit in self._units(places.unit)}
        logits = np.full(len(places), np.nan, np.float32)
        times = np.zeros(len(places), np.int64)
        queries = np.zeros(places.num_queries, np.int64)
        for scored, dead in self._parts.values():
            self._fill(places, scored, logits, times, queries)
            if dead is not None:
                times += self._dead_slots(places, dead)
        if (queries != 1).any():
            self._refuse(places, int(np.flatnonzero(queries != 1)[0]), None)
        is_possible = places.spread(np.ones(len(places.scored_at), np.bool_), False)
        times[np.isfinite(logits) & ~is_possible] += 1
        if (times != 1).any():
            slot = int(np.flatnonzero(times != 1)[0])
            self._refuse(places, int(places.query[slot]), int(places.index[slot]))
        return logits

    def _units(self, unit: WorkUnit) -> list[str]:
        return [*self.teacher.units_with(unit.spans)]

    def _read(self, unit_id: str) -> tuple[ScoredPlaces, DeadPlaces | None]:
        output = self.teacher.output
        dead = read_dead_places(output, unit_id) if unit_id in self.teacher.dead_letters else None
        return read_scored_places(output, unit_id), dead

    def _fill(
        self, places: UnitPlaces, scored: ScoredPlaces, logits: FloatArray, times: LongArray, queries: LongArray
    ) -> None:
        at, is_here = self._queries(places, scored)
        np.add.at(queries, at[is_here], 1)
        kept = is_here[scored.query]
        query = at[scored.query[kept]]
        slots = self._slots(places, query, scored.index[kept].astype(np.int64))
        self._require_ids(places, at[is_here], scored.query_ids, is_here, places.query_ids.take(pa.array(at[is_here])))
        self._require_ids(places, query, scored.doc_ids, kept, places.doc_ids.take(pa.array(slots)))
        logits[slots] = scored.logit[kept]
        np.add.at(times, slots, 1)

    def _queries(self, places: UnitPlaces, scored: ScoredPlaces) -> tuple[LongArray, BoolArray]:
        """The query of the unit for each query of a part, and which of them are of the unit at all."""
        rows = scored.queries.rows_in(places.unit)
        at = np.searchsorted(places.rows, rows)
        is_here = rows >= 0
        is_right = places.rows[np.minimum(at, places.num_queries - 1)] == rows if places.num_queries else ~is_here
        if (is_here & ~is_right).any():
            self._refuse_row(places, int(rows[is_here & ~is_right][0]))
        return at, is_here

    def _require_ids(
        self, places: UnitPlaces, query: LongArray, ids: pa.Array, where: BoolArray, of_input: pa.Array
    ) -> None:
        """Raises CommitError where an id of the output is not the one that the input has at its place."""
        ids = ids.filter(pa.array(where))
        if (at := pc.index(pc.fill_null(pc.not_equal(ids, of_input), False), True).as_py()) < 0:
            return
        (span,), (row,) = places.unit.places_of(places.rows[query[at : at + 1]])
        own, other = (array[at].as_py()[:100] for array in (ids, of_input))
        raise CommitError(
            f"Teacher {self.teacher.name}: {self.teacher.output.uri} was made from other rows than the input has now: "
            f"at row {row} of {places.unit.spans[span].file} it has the id {own!r}, the input {other!r}. Put the files "
            "back that this teacher has scored, or run it again.",
            unit_id=places.unit.unit_id,
        )

    def _dead_slots(self, places: UnitPlaces, dead: DeadPlaces) -> LongArray:
        rows = dead.rows.rows_in(places.unit)
        kept = (rows >= 0) & (dead.index >= 0)
        query = np.searchsorted(places.rows, rows[kept], side="right") - 1
        slots = self._slots(places, query, dead.index[kept])
        return np.bincount(slots, minlength=len(places)).astype(np.int64)

    def _slots(self, places: UnitPlaces, query: LongArray, index: LongArray) -> LongArray:
        slots = places.offsets[query] + index
        is_outside = (index < 0) | (slots >= places.offsets[query + 1])
        if is_outside.any():
            at = int(np.flatnonzero(is_outside)[0])
            self._refuse(places, int(query[at]), int(index[at]))
        return slots

    def _refuse(self, places: UnitPlaces, query: int, index: int | None) -> None:
        what = "the query" if index is None else f"candidate {index} of the query"
        self._refuse_row(places, int(places.rows[query]), what)

    def _refuse_row(self, places: UnitPlaces, row: int, what: str = "a query") -> None:
        (at,), (number,) = places.unit.places_of(np.array([row]))
        raise CommitError(
            f"Teacher {self.teacher.name}: {self.teacher.output.uri} and the input do not fit together: "
            f"{what} at row {number} of {places.unit.spans[at].file} is not there exactly once in both. "
            "`reranker-batch verify` tells whether the output is sound.",
            unit_id=places.unit.unit_id,
        )


@dataclass(frozen=True)
class Joiner:
    """Joins units of the input, in their order, with all teachers."""

    source: InputSource
    teachers: tuple[TeacherScores, ...]
    judgments: Judgments

    def join(self, unit: WorkUnit) -> Candidates:
        """Read a unit and find what every teacher says about each of its candidates.

        Raises:
            InputError: The input cannot be read, or is not the one that was planned.
            CommitError: The output of a teacher cannot be read or does not fit.
        """
        rows = self.source.read(unit)
        places = UnitPlaces.of(unit, rows)
        logits = np.stack([teacher.logits(places) for teacher in self.teachers])
        relevance, is_judged = self.judgments.of(rows)
        return Candidates.of(places, rows, logits, relevance, is_judged)
