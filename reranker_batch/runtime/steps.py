"""The three steps of a unit as Ray runs them: two tasks and an actor around the plain functions of `pipeline`."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import pyarrow as pa

from reranker_batch.config import InputConfig, ModelConfig
from reranker_batch.core.isolation import CarefulScorer
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder, PairScorer
from reranker_batch.core.precision import Precision
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import ReplicaError, RerankerBatchError
from reranker_batch.model.files import ModelFiles, resolve_model
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.tokenizing import ModelPairEncoder, load_pair_encoder
from reranker_batch.pipeline import (
    FinishedUnit,
    PreparedUnit,
    ResultSettings,
    ScoredUnit,
    finish_unit,
    prepare_unit,
    score_unit,
)
from reranker_batch.runtime import blocks
from reranker_batch.runtime.ledger import LedgerClient, replica_name
from reranker_batch.runtime.rescoring import rescore
from reranker_batch.storage.columns import InputColumns
from reranker_batch.storage.dead_letters import dead_letter_table
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.lock import LockTicket
from reranker_batch.storage.parts import DEAD_LETTERS, SCORES, DeadLetterFile, PartRecord, publish_part
from reranker_batch.storage.reader import read_source, read_unit

_LOG = logging.getLogger(__name__)
PREPARED_AT = "prepared_at"
"""Among the timings of a prepared unit: the time of day, which tells a replica whether the unit was there in time."""


@dataclass(frozen=True)
class JobSpec:
    """All that a step needs to know, the same for every unit; small, and without secrets."""

    input_root: str
    input: InputConfig
    columns: InputColumns
    model: ModelConfig
    recipe: Recipe
    device: str
    dtype: str
    threads: int
    max_batch_tokens: int | None
    """None lets each replica choose for its device."""
    limits: RequestLimits
    results: ResultSettings
    output: Folder
    fingerprint: str
    lock: LockTicket | None = None
    precision_sample: Mapping[str, int] = field(default_factory=dict)
    """How many pairs of which units are scored again in float32."""

    def load_encoder(self) -> PairEncoder:
        return _load_encoder(self.model, self.recipe)

    def load_scorer(self) -> PairScorer:
        # The CPU steps run this module too, and need not pay for importing torch.
        from reranker_batch.model.checks import start_scorer
        from reranker_batch.model.loading import use_threads

        use_threads(self.threads)
        return start_scorer(
            model_files(self.model).folder,
            recipe=self.recipe,
            dtype=self.dtype,
            device=self.device,
            longest_pair=self.limits.max_pair_tokens,
            max_batch_tokens=self.max_batch_tokens,
            trust_remote_code=self.model.trust_remote_code,
        )

    def load_exact_scorer(self) -> PairScorer:
        """A second copy of the model, in float32 and on the same device."""
        from reranker_batch.model.scorer import load_scorer

        return load_scorer(
            model_files(self.model).folder,
            _load_encoder(self.model, self.recipe),
            recipe=self.recipe,
            dtype="float32",
            device=self.device,
            max_batch_tokens=self.max_batch_tokens,
            trust_remote_code=self.model.trust_remote_code,
        )


def model_files(model: ModelConfig, *, with_weights: bool = True) -> ModelFiles:
    """The files of a model on this machine."""
    return resolve_model(
        model.name,
        revision=model.revision,
        with_weights=with_weights,
        trust_remote_code=model.trust_remote_code,
    )


@lru_cache(maxsize=2)
def _load_encoder(model: ModelConfig, recipe: Recipe) -> ModelPairEncoder:
    """Once a process: Ray runs many tasks in one."""
    folder = model_files(model, with_weights=False).folder
    return load_pair_encoder(folder, recipe=recipe, trust_remote_code=model.trust_remote_code)


@contextmanager
def _named(unit: WorkUnit, step: str) -> Iterator[None]:
    """Every error of a step says which unit it was."""
    try:
        yield
    except RerankerBatchError as error:
        error.unit_id = error.unit_id or unit.unit_id
        raise
    except Exception as error:
        message = f"Unit {unit.unit_id} of {unit.file} cannot be {step}: {_described(error)}"
        raise ReplicaError(message, unit_id=unit.unit_id) from error


def prepare(block: pa.Table, *, job: JobSpec) -> pa.Table:
    """A unit's place in the input -> its rows, cut, counted and tokenized."""
    started = time.perf_counter()
    unit = blocks.read_unit_block(block)
    with _named(unit, "prepared"):
        rows = read_unit(job.input_root, job.input, job.columns, unit)
        prepared = prepare_unit(unit, rows, job.load_encoder(), job.limits, keep_documents=job.results.return_documents)
    return blocks.prepared_block(prepared, {"prepare": time.perf_counter() - started, PREPARED_AT: time.time()})


class Replica:
    """One model copy. Loaded once, then called with one prepared unit at a time.

    What a process cannot say once it has died, it tells the ledger before. After an error that is not ours the
    process ends itself, since a device may be of no use after it; the unit is tried again in a fresh process.
    """

    def __init__(self, job: JobSpec, ledger: LedgerClient) -> None:
        self._job = job
        self._ledger = ledger
        name = replica_name()
        ledger.start(name)
        try:
            self._scorer = job.load_scorer()
        except RerankerBatchError as error:
            ledger.give_up(error)
            raise
        except Exception as error:
            ledger.fail_start(name, _described(error))
            os._exit(1)
        ledger.started(name)
        self._free_since = time.time()

    def __call__(self, block: pa.Table) -> pa.Table:
        started = time.time()
        prepared, timings = blocks.read_prepared(block)
        with _named(prepared.unit, "scored"):
            scored, precision, rescored_s = self._score(prepared)
        came = min(max(timings.pop(PREPARED_AT), self._free_since), started)
        timings |= {"wait_for_input": came - self._free_since, "hand_over": started - came, "rescore": rescored_s}
        self._free_since = time.time()
        timings["score"] = self._free_since - started - rescored_s
        return blocks.scored_block(scored, timings, precision)

    def _score(self, prepared: PreparedUnit) -> tuple[ScoredUnit, Precision | None, float]:
        """The unit, what its sample showed, and the seconds that the sample took."""
        unit_id = prepared.unit.unit_id
        approach = self._ledger.begin(unit_id)
        scorer = self._scorer
        if not approach.is_plain:
            scorer = CarefulScorer(scorer, approach, announce=partial(self._ledger.take, unit_id))
        try:
            scored = score_unit(prepared, scorer)
        except RerankerBatchError:
            raise
        except Exception as error:
            self._ledger.fail(unit_id, _described(error))
            os._exit(1)
        # Before the end is told: should the second scoring kill the process, the next attempt goes without.
        scored_at = time.time()
        precision = self._rescore(prepared, scored) if approach.is_plain else None
        self._ledger.end(unit_id)
        return scored, precision, time.time() - scored_at

    def _rescore(self, prepared: PreparedUnit, scored: ScoredUnit) -> Precision | None:
        num_pairs = self._job.precision_sample.get(prepared.unit.unit_id, 0)
        if not num_pairs:
            return None
        try:
            exact = self._scorer if self._job.dtype == "float32" else self._job.load_exact_scorer()
            return rescore(prepared, scored, exact, num_pairs=num_pairs, results=self._job.results)
        except Exception as error:  # Most likely memory; a unit that is scored must not be lost over a sample.
            _LOG.warning("no pairs of unit %s were scored again: %s", prepared.unit.unit_id, _described(error))
            return None


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def finish(block: pa.Table, *, job: JobSpec) -> pa.Table:
    """A scored unit -> its published part; what comes back is the part's entry for the report."""
    started = time.perf_counter()
    scored, timings, precision = blocks.read_scored(block)
    with _named(scored.unit, "finished"):
        finished = finish_unit(scored, job.results)
        record = PartRecord(scored.unit.unit_id, job.fingerprint, asdict(finished.counts))
        if job.lock is not None:
            job.lock.confirm()
        letters = _publish_dead_letters(scored.unit, finished, record, job)
        record = replace(record, dead_letters=letters)
        part = publish_part(job.output, SCORES, finished.part, finished.schema, record)
    entry = {"num_rows": part.num_rows, "size_bytes": part.size_bytes, "sha256": part.sha256}
    timings["finish"] = time.perf_counter() - started
    facts = {"oom_splits": scored.oom_splits, "way": scored.way, "precision": precision and asdict(precision)}
    values: dict[str, Any] = {**asdict(record), **entry, **facts, "timings": timings}
    return pa.table({"part": [json.dumps(values)]})


def _publish_dead_letters(
    unit: WorkUnit, finished: FinishedUnit, record: PartRecord, job: JobSpec
) -> DeadLetterFile | None:
    """Before the part, which is the record that the unit is done."""
    if not len(finished.rejects):
        return None
    source = read_source(job.input_root, job.input, unit)
    table = dead_letter_table(finished.rejects, source, unit, job.columns)
    return publish_part(job.output, DEAD_LETTERS, table, table.schema, record).as_dead_letters()
