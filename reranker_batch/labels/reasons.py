"""What becomes of a candidate, and why."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

FateArray = npt.NDArray[np.int8]


class Fate(IntEnum):
    """Of a candidate. All but the first four are reasons why it is dropped."""

    POSITIVE = 0
    RELABELLED = 1
    NEGATIVE = 2
    KEPT_FALSE_NEGATIVE = 3
    DEAD_LETTER = 4
    NO_POSITIVE = 5
    SAME_TEXT = 6
    TOO_CLOSE = 7
    DISAGREEMENT = 8
    ABOVE_MAX = 9
    BELOW_MIN = 10
    REPEATED = 11
    OUTSIDE_RANK = 12
    NOT_SAMPLED = 13
    TOO_FEW_NEGATIVES = 14
    OPEN = 15
    """Not decided yet."""

    @property
    def code(self) -> str:
        return self.name.lower()


POSITIVES = (Fate.POSITIVE, Fate.RELABELLED)
NEGATIVES = (Fate.NEGATIVE, Fate.KEPT_FALSE_NEGATIVE)
MEANINGS = {
    Fate.POSITIVE: "relevant by the judgments, the column, or the top rank",
    Fate.RELABELLED: "relevant because two teachers or more put it above all positives",
    Fate.NEGATIVE: "a negative",
    Fate.KEPT_FALSE_NEGATIVE: "a negative although too close to a positive (false_negatives: keep)",
    Fate.DEAD_LETTER: "a teacher has no score for it",
    Fate.NO_POSITIVE: "its query has no positive",
    Fate.SAME_TEXT: "its text is that of a positive of its query",
    Fate.TOO_CLOSE: "too few teachers put it below the lowest positive by the margins",
    Fate.DISAGREEMENT: "the scores of two teachers are too far apart",
    Fate.ABOVE_MAX: "its score is above negatives.max_score",
    Fate.BELOW_MIN: "its score is below positives.min_score or negatives.min_score",
    Fate.REPEATED: "its text stands twice among the positives or the negatives of its query",
    Fate.OUTSIDE_RANK: "its rank among the negatives that pass is outside negatives.rank",
    Fate.NOT_SAMPLED: "its query has enough negatives without it",
    Fate.TOO_FEW_NEGATIVES: "its query has fewer negatives than negatives.min_num",
}
