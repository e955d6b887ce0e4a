"""Prepare, score and finish of one work unit: plain functions on Arrow tables, without Ray, torch or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.activation import Activation
from reranker_batch.core.counts import Counts
from reranker_batch.core.inputs import ModelInputs, input_of_logits, logit_places
from reranker_batch.core.limits import LongDocuments, RequestLimits
from reranker_batch.core.memo import MEMO_COLUMN, MEMO_DTYPE, MemoRows, from_column, to_column
from reranker_batch.core.pair_inputs import Pieces, tokenize_pairs
from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import BoolArray, FloatArray, PairEncoder, PairScorer, PairScores, ignore_progress
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.ranking import Ranked, rank_candidates
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.core.unit_summary import UnitSummary
from reranker_batch.core.units import WorkUnit, request_id_of
from reranker_batch.core.usage import usage_of_queries
from reranker_batch.errors import CommitError, RowError
from reranker_batch.schema import CHUNK_FIELDS, CUT_FIELD, nested_schema, output_field, pairs_schema

NO_SCORES = PairScores(np.empty(0, dtype=np.float32))
_CHUNK_NAMES = tuple(field.name for field in CHUNK_FIELDS)


@dataclass(frozen=True)
class PreparedUnit:
    """A unit ready for a model.

    `queries` has a row per query (place, id, passthrough, requests, total_tokens), `candidates` a row per pair
    to score, `dead_letters` a row per candidate that is not scored. Equal pairs share one model input, so that they
    tie whatever micro-batch they would have been in; `pieces` has the inputs of each candidate.
    """

    unit: WorkUnit
    queries: pa.Table
    candidates: pa.Table
    dead_letters: pa.Table
    inputs: ModelInputs
    pieces: Pieces

    @property
    def model_tokens(self) -> int:
        return int(self.inputs.costs.sum())


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


@dataclass(frozen=True)
class ResultSettings:
    """What decides the rows and columns of a part."""

    layout: Literal["pairs", "nested"]
    top_n: int | None
    return_documents: bool
    activation: Activation
    passthrough: Sequence[str]
    long_documents: LongDocuments = "truncate"

    @property
    def has_chunks(self) -> bool:
        return self.long_documents == "max_chunk"


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


Find = Callable[[MemoRows], tuple[BoolArray, MemoRows]]
"""Of pairs by their hashes: which are known, and the rows of all; see `reuse.Lookup.find`."""


def prepare_unit(
    unit: WorkUnit,
    rows: UnitRows,
    encoder: PairEncoder,
    limits: RequestLimits,
    *,
    keep_documents: bool,
    find: Find | None = None,
) -> PreparedUnit:
    """Cut, count, split into requests and tokenize; each distinct text is tokenized once.

    With `find` the candidates get a column of memo rows, and those that it knows are neither tokenized nor scored.
    """
    texts = UnitTexts.of(rows)
    is_known, memo = find(texts.keys()) if find else nothing_known(np.zeros(len(rows.candidates), MEMO_DTYPE))
    left = np.flatnonzero(~is_known)
    query_at = rows.candidates["query_at"].to_numpy()
    inputs, pieces = tokenize_pairs(texts.subset(left), memo, left, encoder, limits, list_at=query_at[left])
    requests, tokens = usage_of_queries(
        len(rows.queries),
        query_at,
        memo["query_item_tokens"],
        memo["document_item_tokens"],
        limits,
    )
    return PreparedUnit(
        unit=unit,
        queries=rows.queries.append_column("requests", pa.array(requests)).append_column(
            "total_tokens", pa.array(tokens)
        ),
        candidates=_counted(
            rows.candidates if keep_documents else rows.candidates.drop_columns("document"), memo, find, limits
        ),
        dead_letters=rows.dead_letters,
        inputs=inputs,
        pieces=pieces,
    )


def _counted(candidates: pa.Table, memo: MemoRows, find: Find | None, limits: RequestLimits) -> pa.Table:
    """With columns of what is left of the texts, and with memo rows where they are asked for."""
    chunk_names = _CHUNK_NAMES if limits.long_documents == "max_chunk" else ()
    columns = {
        "query_tokens": memo["query_tokens"].copy(),
        "document_tokens": memo["document_tokens"].copy(),
        "truncated": memo["cut"] != 0,
        CUT_FIELD.name: memo["cut"].copy(),
        **{name: memo[name].astype(np.int32) for name in chunk_names},
        **({MEMO_COLUMN: to_column(memo)} if find else {}),
    }
    for name, values in columns.items():
        candidates = candidates.append_column(name, pa.array(values))
    return candidates


def nothing_known(keys: MemoRows) -> tuple[BoolArray, MemoRows]:
    """A `Find` that finds nothing."""
    return np.zeros(len(keys), dtype=np.bool_), keys


def score_texts(
    queries: Sequence[str], documents: Sequence[str], encoder: PairEncoder, scorer: PairScorer, limits: RequestLimits
) -> FloatArray:
    """The logits of a few pairs, cut as those of a unit are; NaN where a pair has none."""
    at = np.arange(len(queries), dtype=np.int64)
    texts = UnitTexts(pa.array(queries, pa.large_string()), pa.array(documents, pa.large_string()), at, at)
    inputs, pieces = tokenize_pairs(texts, np.zeros(len(at), MEMO_DTYPE), at, encoder, limits, list_at=at)
    scores = scorer.score(inputs)
    logits = scores.logits.copy()
    logits[logit_places(inputs, np.array([*scores.failures], dtype=np.int64))] = np.nan
    return pieces.best(logits)[0]


def score_unit(
    prepared: PreparedUnit, scorer: PairScorer, *, on_progress: Callable[[int], None] = ignore_progress
) -> ScoredUnit:
    """Give every candidate its logit, or make it a dead letter if the scorer cannot score it."""
    scores = scorer.score(prepared.inputs, on_progress=on_progress) if len(prepared.inputs) else NO_SCORES
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
    input_at = input_of_logits(prepared.inputs)[prepared.pieces.logit_at]
    at = np.flatnonzero(np.isin(input_at, list(failures)))
    for place, pair in zip(at, np.searchsorted(prepared.pieces.offsets, at, side="right") - 1, strict=True):
        number = int(input_at[place])
        failed.setdefault(int(pair), _of_request(failures[number], int(prepared.inputs.sizes[number])))
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
        part, schema = _pairs_part(finite, kept, settings)
    else:
        part, schema = _nested_part(finite, kept, failures, settings)
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
    for name in ("document_tokens", *_CHUNK_NAMES) if "chunks" in finite.candidates.column_names else ():
        rows[name] = finite.candidates[name].to_numpy()
    return rows


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


def _pairs_part(finite: ScoredUnit, kept: pa.Table, settings: ResultSettings) -> tuple[pa.Table, pa.Schema]:
    of_query = finite.queries.take(kept["query_at"])
    passthrough = [_passthrough_of(name, kept, of_query) for name in settings.passthrough]
    fields = [output_field(field) for field, _ in passthrough]
    schema = pairs_schema(fields, return_documents=settings.return_documents, has_chunks=settings.has_chunks)
    columns = {name: kept[name] for name in kept.column_names} | {"query_id": of_query["query_id"]}
    columns |= {field.name: values for field, values in passthrough}
    return pa.table({name: columns[name] for name in schema.names}), schema


def _passthrough_of(name: str, kept: pa.Table, of_query: pa.Table) -> tuple[pa.Field, pa.ChunkedArray]:
    source = kept if name in kept.column_names else of_query
    return source.schema.field(name), source[name]


def _nested_part(
    finite: ScoredUnit, kept: pa.Table, failures: pa.Table, settings: ResultSettings
) -> tuple[pa.Table, pa.Schema]:
    per_candidate = [name for name in settings.passthrough if name in kept.column_names]
    per_query = [name for name in settings.passthrough if name not in kept.column_names]
    schema = nested_schema(
        [output_field(finite.queries.schema.field(name)) for name in per_query],
        [output_field(kept.schema.field(name)) for name in per_candidate],
        return_documents=settings.return_documents,
        has_chunks=settings.has_chunks,
    )
    names = [field.name for field in schema.field("results").type.value_type]
    structs = pa.StructArray.from_arrays([_flat(kept[name]) for name in names], names)
    offsets = np.searchsorted(kept["query_at"].to_numpy(), np.arange(len(finite.queries) + 1))
    columns = {name: finite.queries[name] for name in finite.queries.column_names}
    columns["results"] = pa.LargeListArray.from_arrays(pa.array(offsets), structs)
    columns |= _places(finite)
    columns |= {name: failures[name] for name in failures.column_names}
    return pa.table({name: columns[name] for name in schema.names}), schema


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _places(finite: ScoredUnit) -> dict[str, pa.Array]:
    """`file`, `row` and `request_ids` of every query."""
    at, rows = finite.unit.places_of(finite.queries["row"].to_numpy())
    spans = finite.unit.spans
    places = zip(at.tolist(), rows.tolist(), finite.queries["requests"].to_pylist(), strict=True)
    ids = [[request_id_of(spans[at].file_index, row, chunk) for chunk in range(count)] for at, row, count in places]
    return {
        "file": pa.array([span.file for span in spans], pa.string()).take(pa.array(at)),
        "row": pa.array(rows),
        "request_ids": pa.array(ids, pa.list_(pa.string())),
    }


def count_unit(unit: PreparedUnit | ScoredUnit) -> Counts:
    """The counts of a unit as far as it has come: its candidates are those to be scored, or those that are."""
    reasons = unit.dead_letters["reason_code"].value_counts().to_pylist()
    return Counts(
        queries=len(unit.queries),
        candidates=len(unit.candidates) + len(unit.dead_letters),
        scored=len(unit.candidates),
        truncated=_sum(unit.candidates["truncated"]),
        requests=_sum(unit.queries["requests"]),
        total_tokens=_sum(unit.queries["total_tokens"]),
        model_tokens=unit.model_tokens,
        reused=_num_reused(unit.candidates),
        **_chunk_counts(unit.candidates),
        dead_letters={reason["values"]: reason["counts"] for reason in reasons},
    )


def _chunk_counts(candidates: pa.Table) -> dict[str, int]:
    if "chunks" not in candidates.column_names:
        return {}
    is_split = pc.greater(candidates["chunks"], 1)
    return {
        "split": _sum(is_split),
        "split_not_all_read": _sum(pc.and_(is_split, candidates["truncated"])),
        "best_chunk_not_first": _sum(pc.greater(candidates["best_chunk"], 0)),
    }


def _num_reused(candidates: pa.Table) -> int:
    """Of these candidates, those whose score is not of this run."""
    if MEMO_COLUMN not in candidates.column_names:
        return 0
    return int(np.count_nonzero(from_column(candidates[MEMO_COLUMN])["nights"]))


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)


def _require_all_candidates(scored: ScoredUnit, finite: ScoredUnit) -> None:
    num_candidates = len(scored.candidates) + len(scored.dead_letters)
    if len(finite.candidates) + len(finite.dead_letters) != num_candidates:
        raise CommitError(
            f"{num_candidates} candidates came in, {len(finite.candidates)} were scored and "
            f"{len(finite.dead_letters)} became dead letters.",
            unit_id=scored.unit.unit_id,
        )
