"""A job on the hash oracle, by the package's own run loop in this process: for faults that no engine has to do with.

`tests/runtime` goes through the same places on Ray, `tests/job` in a child process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from oracle import Answer, HashScorer, OracleBackend, answers
from tables import Group, nested_table

from reranker_batch import JobConfig, RunReport
from reranker_batch.core.backend import Device, Where
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairEncoder
from reranker_batch.core.ragged import IntArray
from reranker_batch.job.job import Job
from reranker_batch.job.processes import in_this_process
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.preparing.ready import look_at_input, make_ready, ready_input
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.output import crash_points

TOP_N = 3
LIMITS = RequestLimits(max_documents=5, max_item_tokens=400, max_request_tokens=1000, max_pair_tokens=2000)
NAN = "<nan>"


class NanScorer(HashScorer):
    """Has no score for documents that hold `<nan>`."""

    def _one(self, ids: IntArray, document_at: int) -> np.float32:
        logit = super()._one(ids, document_at)
        marks = (ids[document_at:-1] - 3).astype(np.uint8).tobytes()
        return np.float32("nan") if NAN.encode() in marks else logit


@dataclass(frozen=True, kw_only=True)
class HashBackend(OracleBackend):
    """The oracle with this scorer."""

    scorer: HashScorer = field(default_factory=HashScorer)
    scoring: Mapping[str, Any] = field(default_factory=dict)

    def identity(self, device: Device) -> dict[str, Any]:
        own = super().identity(device)
        return {**own, **self.scoring, "model": own["model"] | dict(self.scoring.get("model", {}))}

    def load_encoder(self) -> PairEncoder:
        return self.scorer.encoder()

    def load_scorer(self, where: Where) -> HashScorer:
        return self.scorer


@dataclass(frozen=True)
class SmallJob:
    """Reads `input`, writes `output`."""

    input: str
    output: str
    layout: str = "nested"
    unit_pairs: int = 12
    top_n: int | None = TOP_N
    max_failed: int | str = "100%"
    output_layout: str = "pairs"
    report: Mapping[str, Any] = field(default_factory=dict)
    gates: Mapping[str, Any] = field(default_factory=dict)
    memo: bool = True
    reuse: Mapping[str, Any] = field(default_factory=dict)
    limits: RequestLimits = LIMITS
    columns: Mapping[str, Any] = field(default_factory=dict)
    scoring: Mapping[str, Any] = field(default_factory=dict)
    """In the scoring settings, in addition to those of the oracle."""

    def run(self, scorer: HashScorer | None = None) -> RunReport:
        return run_job(self.job(scorer or HashScorer()), inline_engine)

    @property
    def config(self) -> JobConfig:
        return JobConfig.of(
            {
                "input": {"path": self.input, "layout": self.layout, "columns": self.columns},
                "model": {"name": "builtin:mini", "device": "cpu"},
                "ranking": {"top_n": self.top_n},
                "output": {
                    "path": self.output,
                    "layout": self.output_layout,
                    "max_failed": self.max_failed,
                    "memo": self.memo,
                },
                "reuse": self.reuse,
                "report": self.report,
                "gates": self.gates,
                "runtime": {"unit_pairs": self.unit_pairs},
            }
        )

    def job(self, scorer: HashScorer) -> Job:
        """The input is made first where it has to be."""
        config = self.config
        look = look_at_input(config)
        make_ready(config, in_this_process)
        plan = plan_input(ready_input(config, look), unit_pairs=self.unit_pairs)
        return Job(look.known(config), HashBackend(scorer=scorer, scoring=self.scoring), self.limits, plan)


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
