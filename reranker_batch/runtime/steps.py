"""The three steps of a unit as Ray runs them: two tasks and an actor around the plain functions of `pipeline`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from reranker_batch.config import InputConfig, ModelConfig
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder, PairScorer
from reranker_batch.core.units import WorkUnit
from reranker_batch.model.files import ModelFiles, resolve_model
from reranker_batch.model.recipes import Recipe
from reranker_batch.model.tokenizing import load_pair_encoder
from reranker_batch.pipeline import FinishedUnit, ResultSettings, finish_unit, prepare_unit, score_unit
from reranker_batch.runtime import blocks
from reranker_batch.storage.columns import InputColumns
from reranker_batch.storage.dead_letters import dead_letter_table
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.parts import DEAD_LETTERS, SCORES, PartRecord, publish_part
from reranker_batch.storage.reader import read_source, read_unit


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
    max_batch_tokens: int
    limits: RequestLimits
    results: ResultSettings
    output: Folder
    fingerprint: str

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
def _load_encoder(model: ModelConfig, recipe: Recipe) -> PairEncoder:
    """Once a process: Ray runs many tasks in one."""
    folder = model_files(model, with_weights=False).folder
    return load_pair_encoder(folder, recipe=recipe, trust_remote_code=model.trust_remote_code)


def prepare(block: pa.Table, *, job: JobSpec) -> pa.Table:
    """A unit's place in the input -> its rows, cut, counted and tokenized."""
    started = time.perf_counter()
    unit = blocks.read_unit_block(block)
    rows = read_unit(job.input_root, job.input, job.columns, unit)
    prepared = prepare_unit(unit, rows, job.load_encoder(), job.limits, keep_documents=job.results.return_documents)
    return blocks.prepared_block(prepared, {"prepare": time.perf_counter() - started})


class Replica:
    """One model copy. Loaded once, then called with one prepared unit at a time."""

    def __init__(self, job: JobSpec) -> None:
        self._scorer = job.load_scorer()

    def __call__(self, block: pa.Table) -> pa.Table:
        started = time.perf_counter()
        prepared, timings = blocks.read_prepared(block)
        scored = score_unit(prepared, self._scorer)
        return blocks.scored_block(scored, timings | {"score": time.perf_counter() - started})


def finish(block: pa.Table, *, job: JobSpec) -> pa.Table:
    """A scored unit -> its published part; what comes back is the part's entry for the report."""
    started = time.perf_counter()
    scored, timings = blocks.read_scored(block)
    finished = finish_unit(scored, job.results)
    record = PartRecord(scored.unit.unit_id, job.fingerprint, asdict(finished.counts))
    _publish_dead_letters(scored.unit, finished, record, job)
    part = publish_part(job.output, SCORES, finished.part, finished.schema, record)
    entry = {"num_rows": part.num_rows, "size_bytes": part.size_bytes, "sha256": part.sha256}
    timings["finish"] = time.perf_counter() - started
    values: dict[str, Any] = {**asdict(record), **entry, "timings": timings}
    return pa.table({"part": [json.dumps(values)]})


def _publish_dead_letters(unit: WorkUnit, finished: FinishedUnit, record: PartRecord, job: JobSpec) -> None:
    """Before the part, which is the record that the unit is done."""
    if not len(finished.rejects):
        return
    source = read_source(job.input_root, job.input, unit)
    table = dead_letter_table(finished.rejects, source, unit, job.columns)
    publish_part(job.output, DEAD_LETTERS, table, table.schema, record)
