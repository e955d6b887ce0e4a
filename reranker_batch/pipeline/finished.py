"""Finish of one work unit: logits to the rows of a part."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.counts import Counts
from reranker_batch.core.memo import MEMO_COLUMN, MemoRows, from_column
from reranker_batch.core.ranking import Ranked, rank_candidates
from reranker_batch.core.unit_summary import UnitSummary
from reranker_batch.errors import CommitError
from reranker_batch.pipeline.counting import count_unit
from reranker_batch.pipeline.layouts import nested_part, pairs_part
from reranker_batch.pipeline.scored import ScoredUnit, separate_non_finite
from reranker_batch.pipeline.settings import ResultSettings
from reranker_batch.schema import CHUNK_NAMES, CUT_FIELD


@dataclass(frozen=True)
class FinishedUnit:
    """The rows of a part in `schema` (still to be cast), and the candidates that became dead letters."""

    part: pa.Table
    schema: pa.Schema
    dead_letters: pa.Table
    counts: Counts
    summary: UnitSummary
    memo: MemoRows | None = None
    """Of every candidate with a score, where the unit was prepared with `find`."""


def finish_unit(scored: ScoredUnit, settings: ResultSettings) -> FinishedUnit:
    """Rank, keep `top_n` and lay out the rows; every candidate is scored or a dead letter.

    Raises:
        CommitError: The counts do not add up.
    """
    finite = separate_non_finite(scored)
    ranked = rank_candidates(
        finite.candidates["query_at"].to_numpy(),
        finite.candidates["index"].to_numpy(),
        finite.logits,
        top_n=settings.top_n,
    )
    kept = _kept_rows(finite, ranked, settings)
    failures = _failures(finite)
    if settings.layout == "pairs":
        part, schema = pairs_part(finite, kept, settings)
    else:
        part, schema = nested_part(finite, kept, failures, settings)
    _require_all_candidates(scored, finite)
    counts = replace(
        count_unit(finite),
        kept=len(kept),
        failed_queries=pc.sum(pc.greater(pc.utf8_length(failures["code"]), 0)).as_py() or 0,
    )
    return FinishedUnit(part, schema, finite.dead_letters, counts, _summary(finite, settings), _memo(finite))


def _summary(finite: ScoredUnit, settings: ResultSettings) -> UnitSummary:
    candidates = finite.candidates
    tokens = pc.add(candidates["query_tokens"], candidates["document_tokens"]).to_numpy()
    return UnitSummary.of(settings.activation.scores(finite.logits), tokens, candidates[CUT_FIELD.name].to_numpy())


def _memo(finite: ScoredUnit) -> MemoRows | None:
    if MEMO_COLUMN not in finite.candidates.column_names:
        return None
    rows = from_column(finite.candidates[MEMO_COLUMN]).copy()
    rows["logit"] = finite.logits
    for name in ("document_tokens", *CHUNK_NAMES) if "chunks" in finite.candidates.column_names else ():
        rows[name] = finite.candidates[name].to_numpy()
    return rows


def _kept_rows(finite: ScoredUnit, ranked: Ranked, settings: ResultSettings) -> pa.Table:
    """The kept candidates with all their result columns, ordered by query and rank."""
    logits = finite.logits[ranked.order]
    kept = finite.candidates.take(pa.array(ranked.order))
    return (
        kept.append_column("rank", pa.array(ranked.rank))
        .append_column("logit", pa.array(logits))
        .append_column("relevance_score", pa.array(settings.activation.scores(logits)))
    )


def _failures(finite: ScoredUnit) -> pa.Table:
    """`code` and `message` of every query that failed as a whole, empty strings for the others."""
    codes, messages = [""] * len(finite.queries), [""] * len(finite.queries)
    has_scores = np.zeros(len(finite.queries), dtype=bool)
    has_scores[finite.candidates["query_at"].to_numpy()] = True
    for letter in finite.dead_letters.select(["query_at", "reason_code", "message"]).to_pylist():
        query = letter["query_at"]
        if not has_scores[query] and not codes[query]:
            codes[query], messages[query] = letter["reason_code"], letter["message"]
    for query in np.flatnonzero(pc.is_null(finite.queries["query"]).to_numpy()):
        if not codes[query]:  # a null query without candidates has no dead letter to say so
            codes[query], messages[query] = "null_query", "The query is null."
    return pa.table({"code": pa.array(codes, pa.string()), "message": pa.array(messages, pa.string())})


def _require_all_candidates(scored: ScoredUnit, finite: ScoredUnit) -> None:
    num_candidates = len(scored.candidates) + len(scored.dead_letters)
    if len(finite.candidates) + len(finite.dead_letters) != num_candidates:
        raise CommitError(
            f"{num_candidates} candidates came in, {len(finite.candidates)} were scored and "
            f"{len(finite.dead_letters)} became dead letters.",
            unit_id=scored.unit.unit_id,
        )
