"""A few pairs of a unit scored again in float32, one at a time, for the report."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reranker_batch.core.inputs import input_of_logits, logit_places
from reranker_batch.core.pairs import FloatArray, PairScorer, ignore_progress
from reranker_batch.core.precision import Precision, choose_rows, compare
from reranker_batch.core.ragged import LongArray
from reranker_batch.pipeline import PreparedUnit, ResultSettings, ScoredUnit


def rescore(
    prepared: PreparedUnit,
    scored: ScoredUnit,
    exact: PairScorer,
    *,
    num_pairs: int,
    results: ResultSettings,
    on_progress: Callable[[int], None] = ignore_progress,
) -> Precision | None:
    """Compare the scores of a sample of the unit; None if a candidate of the unit could not be scored.

    `exact` computes each pair alone, so that the second score does not depend on other pairs; of a request that is read
    at once, all pairs are computed again.
    """
    if len(scored.candidates) != len(prepared.candidates):
        return None
    query = prepared.candidates["query_at"].to_numpy()
    left = np.flatnonzero(prepared.pieces.is_scored)
    rows = left[choose_rows(query[left], num_pairs)]
    return compare(
        query[rows],
        prepared.candidates["index"].to_numpy()[rows],
        scored.logits[rows],
        _one_by_one(prepared, rows, exact, on_progress),
        top_n=results.top_n,
        activation=results.activation,
    )


def _one_by_one(
    prepared: PreparedUnit, rows: LongArray, exact: PairScorer, on_progress: Callable[[int], None]
) -> FloatArray:
    pieces, inputs = prepared.pieces.of_pairs(rows), prepared.inputs
    again = np.unique(input_of_logits(inputs)[pieces.logit_at])
    logits = np.full(inputs.sizes.sum(), np.nan, dtype=np.float32)
    logits[logit_places(inputs, again)] = exact.score(
        inputs.take(again), one_by_one=True, on_progress=on_progress
    ).logits
    return pieces.best(logits)[0]
