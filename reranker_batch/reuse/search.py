"""Pairs of a unit looked for among the rows of earlier memos."""

from __future__ import annotations

import numpy as np

from reranker_batch.core.memo import MEMO_DTYPE, MemoRows, pair_hashes, same_pairs
from reranker_batch.core.pairs import BoolArray


class PairSearch:
    """Rows are offered piece by piece, so that memory is that of the unit and of one piece; the last of equals wins."""

    def __init__(self, keys: MemoRows) -> None:
        """`keys` has a row for each pair that is looked for; of it only the four halves of hashes are read."""
        self._keys = keys
        self._hashes, self._at = np.unique(pair_hashes(keys), return_inverse=True)
        self._rows = np.zeros(len(self._hashes), MEMO_DTYPE)
        self._is_found = np.zeros(len(self._hashes), dtype=np.bool_)

    @property
    def is_done(self) -> bool:
        """Whether more rows could not add anything."""
        return bool(self._is_found.all())

    def offer(self, rows: MemoRows) -> None:
        """Look through rows in any order."""
        if not len(rows) or not len(self._hashes):
            return
        hashes = pair_hashes(rows)
        at = np.searchsorted(self._hashes, hashes)
        at[at == len(self._hashes)] = 0
        is_wanted = self._hashes[at] == hashes
        places = at[is_wanted]
        self._rows[places] = rows[is_wanted]
        self._is_found[places] = True

    def result(self) -> tuple[BoolArray, MemoRows]:
        """For each pair whether it was found, and its row; where it was not, its keys alone.

        All bits of both texts are compared here: two pairs that share a hash cost a look-up, never a wrong score.
        """
        rows = self._rows[self._at]
        is_found = self._is_found[self._at] & same_pairs(rows, self._keys)
        rows[~is_found] = self._keys[~is_found]
        return is_found, rows
