"""Every process that loads a model loads the files that the run was planned with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.errors import ModelError
from reranker_batch.job.engine import OpenEngine
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine, local_engine
from reranker_batch.storage.files.filesystem import resolve


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    write(nested_table(random_groups(3)), tmp_path / "in" / "a.parquet")
    shutil.copytree(resolve("builtin:")[1] + "/mini", tmp_path / "model")
    return JobConfig.of(
        {
            "input": {"path": str(tmp_path / "in")},
            "model": {"name": str(tmp_path / "model"), "device": "cpu"},
            "output": {"path": str(tmp_path / "out")},
        }
    )


@pytest.mark.parametrize(
    ("engine", "changed"),
    [(inline_engine, "tokenizer.json"), (inline_engine, "model.safetensors"), (local_engine, "model.safetensors")],
    ids=["tokenizer", "weights", "weights in a child"],
)
def test_files_that_change_after_the_plan_are_not_loaded(
    config: JobConfig, tmp_path: Path, engine: OpenEngine, changed: str
) -> None:
    job = open_job(config)
    assert changed in job.backend.identity("cpu")["model"]["files"]
    path = tmp_path / "model" / changed
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"are not those that the run was planned with .other content: {changed}"):
        run_job(job, engine)
    assert list((tmp_path / "out" / "scores").iterdir()) == []


def test_files_that_stay_are_loaded_and_a_run_is_complete(config: JobConfig, tmp_path: Path) -> None:
    assert run_job(open_job(config), inline_engine).exit_code == 0
    assert (tmp_path / "out" / "scores" / "_SUCCESS").exists()
