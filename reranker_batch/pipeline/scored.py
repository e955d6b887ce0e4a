"""Score of one work unit: model inputs to a logit a candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from reranker_batch.core.inputs import input_of_logits, logit_places
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.memo import MEMO_COLUMN, MEMO_DTYPE, from_column
from reranker_batch.core.pair_inputs import tokenize_pairs
from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import BoolArray, FloatArray, PairEncoder, PairScorer, PairScores, ignore_progress
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, RowError
from reranker_batch.pipeline.prepared import PreparedUnit

_NO_SCORES = PairScores(np.empty(0, dtype=np.float32))


@dataclass(frozen=True)
class ScoredUnit:
    """A unit with one float32 logit a candidate; the model inputs are gone."""

    unit: WorkUnit
    queries: pa.Table
    candidates: pa.Table
    dead_letters: pa.Table
    logits: FloatArray
    model_tokens: int
    oom_splits: int
    execution: str


def score_texts(
    queries: Sequence[str],
    documents: Sequence[str],
    list_at: LongArray,
    encoder: PairEncoder,
    scorer: PairScorer,
    limits: RequestLimits,
) -> FloatArray:
    """The logits of a few pairs, cut as those of a unit are; NaN where a pair has none.

    Neighbours with equal numbers in `list_at` are candidates of one query, which counts for a listwise model.
    """
    at = np.arange(len(queries), dtype=np.int64)
    texts = UnitTexts(pa.array(queries, pa.large_string()), pa.array(documents, pa.large_string()), at, at)
    inputs, pieces = tokenize_pairs(texts, np.zeros(len(at), MEMO_DTYPE), at, encoder, limits, list_at=list_at)
    scores = scorer.score(inputs)
    logits = scores.logits.copy()
    logits[logit_places(inputs, np.array([*scores.failures], dtype=np.int64))] = np.nan
    return pieces.best(logits)[0]


def score_unit(
    prepared: PreparedUnit, scorer: PairScorer, *, on_progress: Callable[[int], None] = ignore_progress
) -> ScoredUnit:
    """Give every candidate its logit, or make it a dead letter if the scorer cannot score it."""
    scores = scorer.score(prepared.inputs, on_progress=on_progress) if len(prepared.inputs) else _NO_SCORES
    if scores.logits.shape != (prepared.inputs.sizes.sum(),) or scores.logits.dtype != np.float32:
        raise CommitError(
            f"The scorer gave {scores.logits.dtype} of shape {scores.logits.shape} for {prepared.inputs.sizes.sum()} "
            "logits.",
            unit_id=prepared.unit.unit_id,
        )
    logits, piece = prepared.pieces.best(scores.logits)
    is_scored = prepared.pieces.is_scored
    scored = ScoredUnit(
        unit=prepared.unit,
        queries=prepared.queries,
        candidates=_with_best_chunks(prepared, piece, is_scored),
        dead_letters=prepared.dead_letters,
        logits=np.where(is_scored, logits, _known_logits(prepared)),
        model_tokens=prepared.model_tokens,
        oom_splits=scores.oom_splits,
        execution=scores.execution,
    )
    failed = _failed_pairs(prepared, scores.failures)
    is_failed = np.zeros(len(is_scored), dtype=np.bool_)
    is_failed[[*failed]] = True
    return _separate(scored, is_failed, [(reason.reason_code, str(reason)) for reason in failed.values()])


def _failed_pairs(prepared: PreparedUnit, failures: Mapping[int, RowError]) -> dict[int, RowError]:
    """Why a pair cannot be scored, in the order of the pairs: an input with one of its logits cannot."""
    failed: dict[int, RowError] = {}
    if not failures:
        return failed
    sizes = prepared.inputs.sizes
    input_at = input_of_logits(prepared.inputs)[prepared.pieces.logit_at]
    at = np.flatnonzero(np.isin(input_at, list(failures)))
    for place, pair in zip(at, np.searchsorted(prepared.pieces.offsets, at, side="right") - 1, strict=True):
        number = int(input_at[place])
        failed.setdefault(int(pair), _of_request(failures[number], int(sizes[number])))
    return failed


def _of_request(reason: RowError, num_documents: int) -> RowError:
    """The reason of each document of a request that cannot be scored."""
    if num_documents == 1:
        return reason
    message = f"{reason} The {num_documents} documents of its request are read together, so that all of them fail."
    return RowError(message, reason_code=reason.reason_code)


def _known_logits(prepared: PreparedUnit) -> FloatArray | np.float32:
    if MEMO_COLUMN not in prepared.candidates.column_names:
        return np.float32(np.nan)
    logits: FloatArray = from_column(prepared.candidates[MEMO_COLUMN])["logit"]
    return logits


def _with_best_chunks(prepared: PreparedUnit, piece: LongArray, is_scored: BoolArray) -> pa.Table:
    """The candidates with the chunk that each logit is of; those with a known logit have it already."""
    candidates, pieces = prepared.candidates, prepared.pieces
    if "chunks" not in candidates.column_names or not is_scored.any():
        return candidates
    bounds = pieces.bounds[piece[is_scored]]
    best = {
        "best_chunk": (piece - pieces.offsets[:-1])[is_scored],
        "best_chunk_start": bounds[:, 0],
        "best_chunk_end": bounds[:, 1],
        "document_tokens": bounds[:, 2],
    }
    for name, values in best.items():
        column = candidates[name].to_numpy().copy()
        column[is_scored] = values
        candidates = candidates.set_column(candidates.column_names.index(name), name, pa.array(column))
    return candidates


def separate_non_finite(scored: ScoredUnit) -> ScoredUnit:
    """Move candidates whose logit is no number to the dead letters."""
    is_bad = ~np.isfinite(scored.logits)
    return _separate(
        scored, is_bad, [("non_finite_score", f"The model gave {seen}.") for seen in scored.logits[is_bad]]
    )


def _separate(scored: ScoredUnit, is_bad: BoolArray, reasons: Sequence[tuple[str, str]]) -> ScoredUnit:
    """Move candidates to the dead letters; `reasons` are code and message of each."""
    if not is_bad.any():
        return scored
    dead_letters = scored.candidates.filter(pa.array(is_bad)).select(["query_at", "row", "index"])
    for at, name in enumerate(("reason_code", "message")):
        dead_letters = dead_letters.append_column(name, pa.array([reason[at] for reason in reasons], pa.large_string()))
    return replace(
        scored,
        candidates=scored.candidates.filter(pa.array(~is_bad)),
        dead_letters=pa.concat_tables([scored.dead_letters, dead_letters.cast(DEAD_LETTER_PLACES)]),
        logits=scored.logits[~is_bad],
    )
