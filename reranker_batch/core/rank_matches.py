"""Two rankings of the same queries, matched document by document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of


@dataclass(frozen=True)
class Rankings:
    """The documents of each query, best first, as codes.

    Two rankings that are compared use the same codes. `scores` has the shape of `documents.values`: neighbours of a
    query with equal scores are tied. Without scores nothing is tied.
    """

    documents: Ragged
    scores: FloatArray | None = None


@dataclass(frozen=True)
class RankedSide:
    """Lengths of one side's rankings, and the rank of every document in them.

    `ranks` is flat and counts from 0; tied documents all have the rank of the first of them.
    """

    lengths: LongArray
    ranks: LongArray


@dataclass(frozen=True)
class Matches:
    """The documents that both rankings of a query have, all arrays of shape [matches].

    `before` and `after` are the 0-based places in the two rankings, `rank_before` and `rank_after` the same with
    ties, `position` is the place in the flat array of documents after. `num_repeats` counts documents that a ranking
    has more than once: only the best place of a document counts, and what follows moves up.

    A place before may lie beyond the length before: see `match_first_stage`.
    """

    query: LongArray
    before: LongArray
    after: LongArray
    rank_before: LongArray
    rank_after: LongArray
    position: LongArray
    side_before: RankedSide
    side_after: RankedSide
    num_repeats: int = 0

    @property
    def num_queries(self) -> int:
        return len(self.side_before.lengths)

    @property
    def is_within(self) -> BoolArray:
        """Whether a match lies within the lengths of both rankings."""
        is_within: BoolArray = self.before < self.side_before.lengths[self.query]
        return is_within


def match_rankings(before: Rankings, after: Rankings) -> Matches:
    """Match the documents of query `i` before with those of query `i` after."""
    num_codes = int(max(before.documents.values.max(initial=0), after.documents.values.max(initial=0))) + 1
    one, two = _Distinct.of(before, num_codes), _Distinct.of(after, num_codes)
    order_one, order_two = np.argsort(one.keys, kind="stable"), np.argsort(two.keys, kind="stable")
    sorted_one, sorted_two = one.keys[order_one], two.keys[order_two]
    at = np.searchsorted(sorted_one, sorted_two)
    at[at == len(sorted_one)] = 0
    is_match = sorted_one[at] == sorted_two if len(sorted_one) else np.zeros(len(sorted_two), dtype=bool)
    first, second = order_one[at[is_match]], order_two[is_match]
    return Matches(
        query=two.keys[second] // num_codes,
        before=one.places[first],
        after=two.places[second],
        rank_before=one.side.ranks[first],
        rank_after=two.side.ranks[second],
        position=two.positions[second],
        side_before=one.side,
        side_after=two.side,
        num_repeats=one.num_repeats + two.num_repeats,
    )


def match_first_stage(index: IntArray, lengths: LongArray, scores: FloatArray | None = None) -> Matches:
    """Match the kept candidates of each query, best first, with the order in which they came.

    `index` is the 0-based place of each among all candidates of its query, also of those that were not kept. The
    first stage is as long as the list of kept candidates: what it had at its first places and was not kept is
    unknown, but known not to be in the list. So every measure is that of the whole first stage, cut to that length.
    """
    offsets = offsets_of(lengths)
    places = positions_of(np.zeros(len(lengths), dtype=np.int64), lengths)
    before = index.astype(np.int64)
    ranks = places if scores is None else tied_ranks(scores, offsets)
    return Matches(
        query=np.repeat(np.arange(len(lengths)), lengths),
        before=before,
        after=places,
        rank_before=before,
        rank_after=ranks,
        position=np.arange(len(index), dtype=np.int64),
        side_before=RankedSide(lengths, places),
        side_after=RankedSide(lengths, ranks),
    )


def tied_ranks(scores: FloatArray, offsets: LongArray) -> LongArray:
    """0-based ranks within each query; a score equal to the one before it has its rank."""
    is_first = np.ones(len(scores), dtype=bool)
    is_first[1:] = scores[1:] != scores[:-1]
    is_first[offsets[:-1][np.diff(offsets) > 0]] = True
    leaders = np.maximum.accumulate(np.where(is_first, np.arange(len(scores)), 0))
    ranks: LongArray = leaders - np.repeat(offsets[:-1], np.diff(offsets))
    return ranks


@dataclass(frozen=True)
class _Distinct:
    """A ranking in which no document of a query comes twice; `keys` tell query and document in one number."""

    keys: LongArray
    places: LongArray
    positions: LongArray
    side: RankedSide
    num_repeats: int

    @classmethod
    def of(cls, rankings: Rankings, num_codes: int) -> _Distinct:
        documents = rankings.documents
        lengths = documents.lengths
        query = np.repeat(np.arange(len(documents), dtype=np.int64), lengths)
        keys = query * num_codes + documents.values
        positions = _first_positions(keys)
        num_repeats = len(keys) - len(positions)
        if num_repeats:
            keys, lengths = keys[positions], np.bincount(query[positions], minlength=len(documents))
        places = positions_of(np.zeros(len(lengths), dtype=np.int64), lengths)
        scores = rankings.scores
        ranks = places if scores is None else tied_ranks(scores[positions], offsets_of(lengths))
        return cls(keys, places, positions, RankedSide(lengths, ranks), num_repeats)


def _first_positions(keys: LongArray) -> LongArray:
    """Where each distinct key comes first, in ascending order."""
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return np.arange(len(keys), dtype=np.int64)
    return np.sort(np.unique(keys, return_index=True)[1])
