"""On Ray or without it: what decides, and that it decides nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fault_jobs import faulty_input, oracle_job
from judge import judge, parts
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import local_engine
from reranker_batch.runtime import driver


def chosen(folder: Path, num_queries: int = 4, **runtime: object) -> str:
    write(nested_table(random_groups(num_queries)), folder / "in" / "a.parquet")
    values = {
        "input": {"path": str(folder / "in")},
        "model": {"name": "builtin:mini", "device": "cpu"},
        "output": {"path": str(folder / "out")},
        "runtime": runtime,
    }
    return driver.engine_for(open_job(JobConfig.of(values))).__name__.removesuffix("_engine")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)


def test_a_small_job_needs_no_ray_and_a_large_one_is_worth_its_start(tmp_path: Path) -> None:
    assert chosen(tmp_path / "small") == "local"
    assert chosen(tmp_path / "large", num_queries=20_000) == "ray"


def test_what_is_asked_for_decides(tmp_path: Path) -> None:
    assert chosen(tmp_path, engine="ray") == "ray"
    assert chosen(tmp_path, engine="local", max_replicas=3) == "local"
    assert chosen(tmp_path, ray_address="auto") == "ray"
    assert chosen(tmp_path, max_replicas=3) == "ray"


def test_a_ray_that_is_named_or_in_use_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert chosen(tmp_path) == "ray"
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    assert chosen(tmp_path) == "ray"


@pytest.mark.ray
@pytest.mark.usefixtures("worker_environment")
def test_both_engines_write_the_same_bytes_and_a_run_goes_on_with_its_own(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    groups = faulty_input(tmp_path)
    driver.run_job(oracle_job(tmp_path))
    manifest = json.loads((tmp_path / "out" / "run" / "manifest.json").read_text())
    assert manifest["engine"] == "ray"
    judge(tmp_path, groups)
    on_ray = {name: content for name, (_, content) in parts(tmp_path).items()}
    (tmp_path / "out").rename(tmp_path / "on_ray")
    job = oracle_job(tmp_path, runtime={"engine": "auto"})
    run_job(job, local_engine)
    assert {name: content for name, (_, content) in parts(tmp_path).items()} == on_ray
    assert driver.engine_for(job) is local_engine
