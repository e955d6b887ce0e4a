"""A job that cuts long documents into chunks, from its config to `verify`, and the night after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reranker_batch import JobConfig, RunReport, plan, verify
from reranker_batch.errors import FingerprintError
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine

LONG = "Pandas eat bamboo in the mountains. The sea is wide. " * 100


def config(folder: Path, name: str, **more: Any) -> JobConfig:
    return JobConfig.of(
        {
            "input": {"path": str(folder / "in.parquet")},
            "model": {"name": "builtin:mini", "device": "cpu"},
            "limits": {"profile": "none", "long_documents": "max_chunk", **more.pop("limits", {})},
            "output": {"path": str(folder / name), **more.pop("output", {})},
            **more,
        }
    )


def run(job: JobConfig) -> RunReport:
    return run_job(open_job(job), inline_engine)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    candidates = [{"doc_id": str(at), "text": text} for at, text in enumerate([LONG, "short", LONG + "Where? Here."])]
    rows = [{"query_id": "q", "query": "where do pandas live?", "candidates": candidates}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    return tmp_path


@pytest.mark.parametrize("layout", ["pairs", "nested"])
def test_chunks_are_planned_scored_counted_verified_and_reused(folder: Path, layout: str) -> None:
    estimate = plan(config(folder, "out"))
    assert estimate.sample.split == 2
    report = run(config(folder, "out", output={"layout": layout}))
    assert (report.totals.split, report.totals.truncated) == (2, 0)
    assert report.totals.model_tokens == estimate.sample.model_tokens
    assert verify(str(folder / "out")).is_sound
    again = run(
        config(folder, "night", output={"layout": layout}, reuse={"from": str(folder / "out"), "required": True})
    )
    assert again.reused_share == 1
    assert again.totals.best_chunk_not_first == report.totals.best_chunk_not_first
    first, second = (pq.read_table(folder / name / "scores") for name in ("out", "night"))
    assert second.equals(first)


def test_another_way_with_long_documents_is_another_job_and_reuses_nothing(folder: Path) -> None:
    run(config(folder, "out"))
    with pytest.raises(FingerprintError, match='long_documents: "max_chunk" -> "truncate"'):
        run(config(folder, "out", limits={"long_documents": "truncate"}))
    truncated = run(config(folder, "other", limits={"long_documents": "truncate"}, reuse={"from": str(folder / "out")}))
    assert truncated.totals.reused == 0
    assert truncated.totals.truncated == 2
