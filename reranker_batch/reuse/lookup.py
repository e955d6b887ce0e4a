"""Look-up of the pairs of a unit in the memo of an earlier output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from reranker_batch.core.memo import MAX_NIGHTS, KeyArray, MemoRows
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.reuse.index import spread
from reranker_batch.reuse.regroup import Regrouped
from reranker_batch.reuse.search import PairSearch
from reranker_batch.reuse.source import MemoSource

MOST_PARTS = 4
"""Parts that one query leads to, and the mean number of parts a unit from which on regrouping them pays."""


@dataclass(frozen=True)
class Lookup:
    """Finds pairs by their texts. The same for every unit and every process, and small."""

    source: MemoSource
    regrouped: Regrouped | None = None
    """None where the table is in the order of the earlier run, more or less."""
    max_age_nights: int | None = None
    """Scores that were taken over in so many runs are computed again."""
    is_listwise: bool = False
    """Whether a query's hash is that of its whole list, of which all scores are known or none is."""

    def find(self, unit_id: str, keys: MemoRows) -> tuple[BoolArray, MemoRows]:
        """For each pair whether its score is known, and its row, one night older; else its keys alone.

        Memory is that of the unit's rows and of one part.

        Raises:
            CommitError: A memo part is missing or not the one on record.
        """
        search = PairSearch(keys)
        if self.regrouped is not None:
            for rows in self.regrouped.rows_of(unit_id):
                search.offer(rows)
        else:
            for number in parts_of(self.source, unit_id, keys)[0]:
                search.offer(self.source.read(int(number)))
                if search.is_done:
                    break
        return self._in_age(*search.result(), keys)

    def _in_age(self, is_found: BoolArray, rows: MemoRows, keys: MemoRows) -> tuple[BoolArray, MemoRows]:
        most = MAX_NIGHTS if self.max_age_nights is None else self.max_age_nights
        nights = rows["nights"].astype(np.int64) + 1
        is_known = is_found & (nights <= most) if self.max_age_nights is not None else is_found
        is_known &= np.isfinite(rows["logit"])
        if self.is_listwise:
            is_known &= _of_known_lists(is_known, keys)
        rows["nights"] = np.where(is_known, np.minimum(nights, MAX_NIGHTS), 0)
        rows[~is_known] = keys[~is_known]
        return is_known, rows


def _of_known_lists(is_known: BoolArray, keys: MemoRows) -> BoolArray:
    """Whether all pairs of a pair's list are known."""
    _, of_list = np.unique(keys["q0"], return_inverse=True)
    unknown = np.bincount(of_list, weights=~is_known)
    return np.asarray(unknown[of_list] == 0, dtype=np.bool_)


def parts_of(source: MemoSource, unit_id: str, keys: MemoRows) -> tuple[LongArray, LongArray]:
    """Numbers of the memo parts that have queries of a unit, and how many each has, the best first."""
    return source.index.places_of(np.unique(keys["q0"]), near=source.near(unit_id), most=MOST_PARTS)


def is_in_order(source: MemoSource, samples: Iterable[tuple[str, KeyArray]]) -> bool:
    """Whether a few units, by their ids and queries, find most of what they have in a few parts each."""
    spreads = [
        spread(source.index.places_of(np.unique(queries), near=source.near(unit_id), most=MOST_PARTS)[1])
        for unit_id, queries in samples
    ]
    return float(np.mean(spreads)) <= MOST_PARTS if spreads else True
