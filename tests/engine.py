"""A job on the hash oracle, one unit after the other in a plain process: what the steps and the driver do, without Ray.

It exists for the faults that must hold whatever engine runs the units; `tests/runtime` and `tests/test_cli.py` go
through the same places on Ray.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from oracle import Answer, ByteEncoder, HashScorer, answers
from tables import Group, nested_table

from reranker_batch.config import InputConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.ragged import IntArray
from reranker_batch.core.report import is_within
from reranker_batch.core.units import WorkUnit
from reranker_batch.pipeline import ResultSettings, finish_unit, prepare_unit, score_unit
from reranker_batch.runtime.attempt import Attempt
from reranker_batch.storage import crash_points
from reranker_batch.storage.dead_letters import dead_letter_table
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.gate import conclude
from reranker_batch.storage.lock import Lock, hold_lock
from reranker_batch.storage.parts import DEAD_LETTERS, SCORES, PartRecord, publish_part
from reranker_batch.storage.planning import InputPlan, plan_input
from reranker_batch.storage.published import published_parts
from reranker_batch.storage.reader import read_source, read_unit
from reranker_batch.storage.run_state import RunState

TOP_N = 3
LIMITS = RequestLimits(max_documents=5, max_item_tokens=400, max_request_tokens=1000, max_pair_tokens=2000)
NAN = "<nan>"


class NanScorer(HashScorer):
    """Has no score for documents that hold `<nan>`."""

    def _one(self, ids: IntArray, first_segment: int) -> np.float32:
        logit = super()._one(ids, first_segment)
        marks = (ids[first_segment:-1] - 3).astype(np.uint8).tobytes()
        return np.float32("nan") if NAN.encode() in marks else logit


@dataclass(frozen=True)
class SmallJob:
    """Reads `input`, writes `output`."""

    input: str
    output: str
    layout: str = "nested"
    unit_pairs: int = 12
    top_n: int | None = TOP_N
    max_failed: int | str = "100%"

    def run(self, scorer: HashScorer | None = None) -> None:
        state = RunState(Folder.at(self.output))
        config = InputConfig.model_validate({"path": self.input, "layout": self.layout})
        plan = plan_input(config, unit_pairs=self.unit_pairs)
        settings = {
            "recipe": {"activation": Activation().to_dict()},
            "input": {"layout": config.layout, "columns": config.columns.model_dump()},
            "output": {"layout": "pairs"},
            "ranking": {"top_n": self.top_n},
        }
        with hold_lock(state.output) as lock:
            attempt = Attempt(state.units(plan.units))
            for part in published_parts(state, attempt.units, fingerprint=fingerprint(settings)):
                attempt.skip(part)
            if attempt.remaining:
                state.start(attempt.remaining)
                manifest = {"fingerprint": fingerprint(settings), "settings": settings, "input": plan.identity()}
                state.record({**manifest, "config": {"input": config.model_dump()}}, attempt.units)
            for unit in attempt.remaining:
                attempt.add(self._process(unit, config, plan, lock, fingerprint(settings), scorer or HashScorer()))
            lock.confirm()
            report = attempt.report("complete", "", self.output)
            failed, candidates = report.totals.num_failed, report.totals.candidates
            if not is_within(self.max_failed, failed=failed, candidates=candidates):
                message = f"{failed} dead letters are more than output.max_failed={self.max_failed}"
                report = replace(report, status="too_many_failed", message=message)
            conclude(state, report)

    def _process(
        self, unit: WorkUnit, config: InputConfig, plan: InputPlan, lock: Lock, made_by: str, scorer: HashScorer
    ) -> dict[str, Any]:
        rows = read_unit(plan.root, config, plan.columns, unit)
        prepared = prepare_unit(unit, rows, ByteEncoder(), LIMITS, keep_documents=False)
        results = ResultSettings("pairs", self.top_n, False, 0.0, ())
        finished = finish_unit(score_unit(prepared, scorer), results)
        record = PartRecord(unit.unit_id, made_by, asdict(finished.counts))
        lock.ticket.confirm()
        output = lock.ticket.output
        if len(finished.rejects):
            letters = dead_letter_table(finished.rejects, read_source(plan.root, config, unit), unit, plan.columns)
            file = publish_part(output, DEAD_LETTERS, letters, letters.schema, record)
            record = replace(record, dead_letters=file.as_dead_letters())
        part = publish_part(output, SCORES, finished.part, finished.schema, record)
        entry = {"num_rows": part.num_rows, "size_bytes": part.size_bytes, "sha256": part.sha256}
        return {**asdict(record), **entry, "timings": {}, "oom_splits": 0, "way": "hash", "precision": None}


def run_in_a_process(job: SmallJob, crash_at: str = "", scorer: HashScorer | None = None) -> int:
    """Run in a fresh process that may crash; its exit code."""
    process = forks().Process(target=_armed, args=(job, crash_at, scorer))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


@lru_cache(maxsize=1)
def forks() -> ForkServerContext:
    """Fresh processes without the price of the imports; before Python 3.12 the server needs the path by environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["engine"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    return context


def _armed(job: SmallJob, crash_at: str, scorer: HashScorer | None) -> None:
    os.environ[crash_points.VARIABLE] = crash_at
    job.run(scorer)


def table_with_nulls(groups: Sequence[Group]) -> pa.Table:
    """Every third query has a candidate without text at its end."""
    table = nested_table(groups)
    lists = [
        [*candidates, {"doc_id": "null", "text": None}] if at % 3 == 0 else candidates
        for at, candidates in enumerate(table["candidates"].to_pylist())
    ]
    return table.set_column(2, "candidates", pa.array(lists, table.schema.field("candidates").type))


def num_nulls(groups: Sequence[Group]) -> int:
    return len(range(0, len(groups), 3))


def kept_rows(output: Path) -> list[Answer]:
    table = pl.read_parquet(output / "scores" / "*.parquet")
    columns = table.select("query_id", "doc_id", "index", "rank").iter_rows(named=True)
    return [Answer(**row, logit=logit) for row, logit in zip(columns, table["logit"].to_numpy(), strict=True)]


def right_rows(groups: Sequence[Group], *, top_n: int | None = TOP_N) -> list[Answer]:
    return [answer for group in groups for answer in answers(*group, top_n=top_n)]
