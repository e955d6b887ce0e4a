"""How far rankings moved: counts and histograms over queries, which add up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.distribution import Distribution
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.rank_matches import Matches
from reranker_batch.core.rank_similarity import is_changed, kendall_tau_b, overlap_at, rank_biased_overlap

DEPTH = 10
"""How many of a query's first documents decide whether it changed and how far they overlap."""

PERSISTENCE = 0.9
"""Parameter p of rank-biased overlap."""

MAX_MOVES = 20
"""How many of the largest moves are listed."""

_TENTHS = tuple(tenth / 10 for tenth in range(1, 10))
_TWENTIETHS = tuple(twentieth / 20 for twentieth in range(1, 20))
_TAUS = tuple(tenth / 10 for tenth in range(-9, 10))
_PLACES = (-99, -49, -19, -9, -4, -2, -1, 0, 1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Move:
    """A document that both rankings of a query have; ranks count from 1."""

    query_id: str
    doc_id: str
    rank_before: int
    rank_after: int

    @property
    def places(self) -> int:
        """How far the document moved up; negative for down."""
        return self.rank_before - self.rank_after

    @property
    def order(self) -> tuple[int, int, str, str]:
        """Farthest first, then those that were or are nearer to the top."""
        return -abs(self.places), min(self.rank_before, self.rank_after), self.query_id, self.doc_id


@dataclass(frozen=True)
class Movement:
    """What moved between two rankings of many queries. Sums do not depend on how the queries are cut into parts.

    Only queries that have documents on both sides are compared.
    """

    queries: int = 0
    """Queries that were compared."""
    queries_only_before: int = 0
    queries_only_after: int = 0
    changed_queries: int = 0
    """Queries whose first ten documents, in their order, differ."""
    repeated_queries: int = 0
    """Further rows with the id of an earlier query of the same side; the first one was compared."""
    repeated_documents: int = 0
    """Further places of a document in one ranking; the best one was compared."""
    documents_before: int = 0
    documents_after: int = 0
    documents_in_both: int = 0
    moved_up: int = 0
    moved_down: int = 0
    overlap_at_10: Distribution = field(default=Distribution.empty(_TENTHS))
    rank_biased_overlap: Distribution = field(default=Distribution.empty(_TWENTIETHS))
    kendall_tau_b: Distribution = field(default=Distribution.empty(_TAUS))
    """Only of queries where it is defined."""
    places: Distribution = field(default=Distribution.empty(_PLACES))
    """How far documents that both rankings have moved up."""
    largest_moves: tuple[Move, ...] = ()

    def __add__(self, other: Movement) -> Movement:
        names = self.__dataclass_fields__.keys() - {"largest_moves"}
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        moves = sorted([*self.largest_moves, *other.largest_moves], key=lambda move: move.order)
        return Movement(**sums, largest_moves=tuple(moves[:MAX_MOVES]))

    @property
    def changed_share(self) -> float | None:
        """Of the compared queries; None without any."""
        return self.changed_queries / self.queries if self.queries else None

    def to_dict(self) -> dict[str, Any]:
        """For report.json."""
        values = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        distributions = {name: value.to_dict() for name, value in vars(self).items() if isinstance(value, Distribution)}
        return {
            **values,
            "changed_share": self.changed_share,
            "documents_in": self.documents_after - self.documents_in_both,
            "documents_out": self.documents_before - self.documents_in_both,
            **distributions,
            "largest_moves": [{**asdict(move), "places": move.places} for move in self.largest_moves],
        }


def movement_of(matches: Matches, query_ids: pa.Array, doc_ids: pa.Array) -> Movement:
    """Movement of one batch of queries.

    `query_ids` has an id for each query, `doc_ids` one for each document of the rankings after, flat.
    """
    before, after = matches.side_before.lengths, matches.side_after.lengths
    has_both = (before > 0) & (after > 0)
    places = matches.before - matches.after
    overlap, similarity, tau = (
        values[has_both]
        for values in (
            overlap_at(matches, depth=DEPTH),
            rank_biased_overlap(matches, persistence=PERSISTENCE),
            kendall_tau_b(matches),
        )
    )
    return Movement(
        queries=int(has_both.sum()),
        queries_only_before=int((before > 0).sum() - has_both.sum()),
        queries_only_after=int((after > 0).sum() - has_both.sum()),
        changed_queries=int((is_changed(matches, depth=DEPTH) & has_both).sum()),
        repeated_documents=matches.num_repeats,
        documents_before=int(before[has_both].sum()),
        documents_after=int(after[has_both].sum()),
        documents_in_both=int(matches.is_within.sum()),
        moved_up=int((places > 0).sum()),
        moved_down=int((places < 0).sum()),
        overlap_at_10=Distribution.of(overlap, _TENTHS),
        rank_biased_overlap=Distribution.of(similarity, _TWENTIETHS),
        kendall_tau_b=Distribution.of(tau, _TAUS),
        places=Distribution.of(places, _PLACES),
        largest_moves=_largest_moves(matches, query_ids, doc_ids),
    )


def _largest_moves(matches: Matches, query_ids: pa.Array, doc_ids: pa.Array) -> tuple[Move, ...]:
    rows = _farthest(matches, MAX_MOVES)
    columns = (
        query_ids.take(pa.array(matches.query[rows])).to_pylist(),
        doc_ids.take(pa.array(matches.position[rows])).to_pylist(),
        (matches.before[rows] + 1).tolist(),
        (matches.after[rows] + 1).tolist(),
    )
    moves = [Move(*values) for values in zip(*columns, strict=True)]
    return tuple(sorted(moves, key=lambda move: move.order)[:MAX_MOVES])


def _farthest(matches: Matches, number: int) -> LongArray:
    """Matches that moved the farthest; of those that tie for the last places all, so that their ids can decide."""
    places = np.abs(matches.before - matches.after)
    weights = (places << 32) - np.minimum(matches.before, matches.after)
    moved = np.flatnonzero(places)
    if len(moved) > number:
        least = np.partition(weights[moved], -number)[-number]
        moved = moved[weights[moved] >= least]
    return moved
