"""What a run tells of the values of its pairs: histograms, why texts were cut, examples of dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from reranker_batch.core.distribution import Distribution, Histogram
from reranker_batch.core.memo import DOCUMENT_CUT, PAIR_CUT, QUERY_CUT
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import LongArray

MAX_EXAMPLES = 5
"""Examples of each reason code."""
MAX_ID_LENGTH = 100
"""Characters of an id in an example; longer ones are cut."""

SCORE_EDGES = tuple(twentieth / 20 for twentieth in range(1, 20))
TOKEN_EDGES = tuple(float(size * 2**power) for power in range(3, 15) for size in (2, 3))
"""16, 24, 32, 48, ... 49,152: two bins for each doubling."""


@dataclass(frozen=True, order=True)
class DeadLetterExample:
    """Where a dead letter is, without its texts. Examples are in the order of their places."""

    reason_code: str
    file: str
    row: int
    query_id: str
    doc_id: str


@dataclass(frozen=True)
class UnitSummary:
    """Of the pairs of a unit that have a score, and of its dead letters. Sums do not depend on order and grouping.

    Raises:
        ValueError: A histogram has other bins than this version makes.
    """

    relevance_score: Distribution = field(default=Distribution.empty(SCORE_EDGES))
    pair_tokens: Distribution = field(default=Distribution.empty(TOKEN_EDGES))
    """Tokens of query and document that the model reads, without special tokens."""
    query_cuts: int = 0
    """Pairs whose query was longer than `max_item_tokens`."""
    document_cuts: int = 0
    """Pairs whose document was longer than `max_item_tokens`."""
    pair_cuts: int = 0
    """Pairs that were longer than `max_pair_tokens`."""
    examples: tuple[DeadLetterExample, ...] = ()

    def __post_init__(self) -> None:
        for histogram, edges in ((self.relevance_score, SCORE_EDGES), (self.pair_tokens, TOKEN_EDGES)):
            if histogram.edges != edges or len(histogram.counts) != len(edges) + 1 or min(histogram.counts) < 0:
                raise ValueError("a histogram has other bins")

    @classmethod
    def of(cls, scores: FloatArray, pair_tokens: LongArray, cut: npt.NDArray[np.uint8]) -> UnitSummary:
        """Arrays of shape [pairs with a score]; `cut` has the bits of a memo row."""
        return cls(
            Distribution.of(scores, SCORE_EDGES),
            Distribution.of(pair_tokens, TOKEN_EDGES),
            query_cuts=int(np.count_nonzero(cut & QUERY_CUT)),
            document_cuts=int(np.count_nonzero(cut & DOCUMENT_CUT)),
            pair_cuts=int(np.count_nonzero(cut & PAIR_CUT)),
        )

    def __add__(self, other: UnitSummary) -> UnitSummary:
        return UnitSummary(
            self.relevance_score + other.relevance_score,
            self.pair_tokens + other.pair_tokens,
            self.query_cuts + other.query_cuts,
            self.document_cuts + other.document_cuts,
            self.pair_cuts + other.pair_cuts,
            first_examples([*self.examples, *other.examples]),
        )

    @property
    def histograms(self) -> dict[str, Histogram]:
        """By name, for report.json."""
        return {"relevance_score": self.relevance_score.histogram(), "pair_tokens": self.pair_tokens.histogram()}

    @property
    def truncation(self) -> dict[str, int]:
        """Pairs by what was too long; a pair may count several times."""
        return {"query": self.query_cuts, "document": self.document_cuts, "pair": self.pair_cuts}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UnitSummary:
        """Read what `asdict` and JSON give."""
        histograms = {name: _histogram(values[name]) for name in ("relevance_score", "pair_tokens")}
        examples = tuple(DeadLetterExample(**example) for example in values["examples"])
        return cls(**{**values, **histograms, "examples": examples})


def _histogram(values: Mapping[str, Any]) -> Distribution:
    return Distribution(tuple(values["edges"]), tuple(values["counts"]), values["scaled_sum"])


def first_examples(examples: Iterable[DeadLetterExample]) -> tuple[DeadLetterExample, ...]:
    """The first few of each reason code."""
    by_reason = groupby(sorted(examples), key=lambda example: example.reason_code)
    return tuple(example for _, group in by_reason for example in list(group)[:MAX_EXAMPLES])
