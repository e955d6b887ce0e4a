"""Prepare and finish of a unit, from the input to a published part. Every engine runs these."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.pairs import PairScores
from reranker_batch.core.precision import Precision
from reranker_batch.core.report import PartEntry
from reranker_batch.core.unit_entry import UnitEntry
from reranker_batch.core.unit_summary import UnitSummary
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import ReplicaError, RerankerBatchError, described
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.pipeline import (
    Find,
    FinishedUnit,
    PreparedUnit,
    ScoredUnit,
    finish_unit,
    nothing_known,
    prepare_unit,
    score_unit,
)
from reranker_batch.storage.output.dead_letters import dead_letter_table, examples_of
from reranker_batch.storage.output.memo import publish_memo
from reranker_batch.storage.output.parts import DEAD_LETTERS, SCORES, PartRecord, publish_part


@dataclass(frozen=True)
class Prepared:
    """A unit ready for a replica. `timings` are durations in seconds, `ready_at` is a time since the epoch."""

    unit: PreparedUnit
    timings: dict[str, float]
    ready_at: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Scored:
    """A unit with its logits, and the result of a second scoring of a sample."""

    unit: ScoredUnit
    timings: dict[str, float]
    precision: Precision | None = None


@contextmanager
def naming(unit: WorkUnit, step: str) -> Iterator[None]:
    """Every error of a step says which unit it was."""
    try:
        yield
    except RerankerBatchError as error:
        error.unit_id = error.unit_id or unit.unit_id
        raise
    except Exception as error:
        message = f"Unit {unit.unit_id} ({unit.shown}) cannot be {step}: {described(error)}"
        raise ReplicaError(message, unit_id=unit.unit_id) from error


def prepare(unit: WorkUnit, spec: WorkerSpec) -> Prepared:
    """A unit's place in the input -> its rows, cut, counted and tokenized."""
    started = time.perf_counter()
    with naming(unit, "prepared"):
        rows = spec.source.read(unit)
        prepared = prepare_unit(
            unit,
            rows,
            spec.backend.load_encoder(),
            spec.limits,
            keep_documents=spec.results.return_documents,
            find=_find(unit, spec),
        )
    return Prepared(prepared, {"prepare": time.perf_counter() - started})


def _find(unit: WorkUnit, spec: WorkerSpec) -> Find | None:
    if spec.lookup is not None:
        return partial(spec.lookup.find, unit.unit_id)
    return nothing_known if spec.memo else None


def take_over(prepared: Prepared) -> Scored:
    """A unit of which every pair is known, as if it had been scored."""
    with naming(prepared.unit.unit, "finished"):
        return Scored(score_unit(prepared.unit, _NoScorer()), prepared.timings)


class _NoScorer:
    def score(self, inputs: ModelInputs, **_: object) -> PairScores:
        raise ReplicaError(f"{len(inputs)} pairs are left to score, although all had been found before.")


def finish(scored: Scored, spec: WorkerSpec) -> UnitEntry:
    """A scored unit -> its published part."""
    started = time.perf_counter()
    unit = scored.unit.unit
    with naming(unit, "finished"):
        finished = finish_unit(scored.unit, spec.results)
        if spec.lock is not None:
            spec.lock.confirm()
        part, summary = _publish(unit, finished, spec)
    return UnitEntry(
        part=part,
        timings={**scored.timings, "finish": time.perf_counter() - started},
        oom_splits=scored.unit.oom_splits,
        execution=scored.unit.execution,
        precision=scored.precision,
        summary=summary,
    )


def _publish(unit: WorkUnit, finished: FinishedUnit, spec: WorkerSpec) -> tuple[PartEntry, UnitSummary]:
    """Dead letters and memo first: the part is the record that the unit is done."""
    record = PartRecord(unit.unit_id, spec.fingerprint, finished.counts, summary=finished.summary)
    if len(finished.dead_letters):
        table = dead_letter_table(finished.dead_letters, spec.source.read_whole(unit), unit)
        file = publish_part(spec.output, DEAD_LETTERS, table, table.schema, record)
        summary = replace(finished.summary, examples=examples_of(table))
        record = replace(record, dead_letters=file.as_dead_letters(), summary=summary)
    if spec.memo and finished.memo is not None:
        memo = publish_memo(spec.output, finished.memo, record, scoring_fingerprint=spec.scoring_fingerprint)
        record = replace(record, memo=memo)
    return publish_part(spec.output, SCORES, finished.part, finished.schema, record).entry(), record.summary
