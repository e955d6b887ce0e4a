from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tables import nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.errors import ConfigError
from reranker_batch.job.estimate import estimate_job, sample_units
from reranker_batch.job.job import open_job
from reranker_batch.runtime import driver

GROUPS = random_groups(60, max_candidates=8)
NEEDS_NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
NUM_PAIRS = sum(len(group[2]) for group in GROUPS)


def config(folder: Path, layout: str = "nested", **tables: dict[str, Any]) -> JobConfig:
    values: dict[str, Any] = {
        "input": {"path": str(folder), "layout": layout},
        "model": {"name": "builtin:mini"},
        "output": {"path": f"{folder}-out"},
        "limits": {"max_documents": 3},
        "runtime": {"unit_pairs": 20},
    }
    for name, more in tables.items():
        values[name] = values.get(name, {}) | more
    return JobConfig.of(values)


def test_a_small_input_is_counted_whole(tmp_path: Path) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet", row_group_size=4)
    estimate = estimate_job(config(tmp_path))
    assert (estimate.files, estimate.rows) == (1, 60)
    requests = [-(-len(group[2]) // 3) for group in GROUPS]
    assert estimate.sample.requests <= sum(requests)
    shown = dict(estimate.rows_to_show())
    assert shown["limits"].startswith("profile gte-rerank-v2: 3 documents a request, 4,000 tokens an item")
    assert not (tmp_path / "out").exists()


def test_the_estimate_is_near_the_truth(tmp_path: Path) -> None:
    write(pairs_table(GROUPS), tmp_path / "a.parquet", row_group_size=7)
    whole = estimate_job(config(tmp_path, "pairs"))
    assert whole.pairs == NUM_PAIRS
    assert whole.scaled(whole.sample.candidates) == NUM_PAIRS


def test_samples_are_spread_over_the_input(tmp_path: Path) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet", row_group_size=1)
    units = open_job(config(tmp_path)).plan.units
    rows = [unit.spans[0].row_start for unit in sample_units(units)]
    assert rows[0] == 0
    assert rows == sorted(set(rows))
    assert rows[-1] > 45


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"batching": {"max_batch_tokens": 64}},
            "max_batch_tokens=64 is below the [0-9]+ tokens that one pair may have",
        ),
        pytest.param({"model": {"device": "cuda"}}, "model.device=cuda, but torch sees no GPU", marks=NEEDS_NO_GPU),
        pytest.param(
            {"model": {"device": "cuda"}, "runtime": {"engine": "local"}}, "model.device=cuda, but", marks=NEEDS_NO_GPU
        ),
        pytest.param(
            {"runtime": {"gpus_per_replica": 0.5, "ray_address": "local"}},
            "runtime.gpus_per_replica=0.5, but torch sees no GPU on this machine",
            marks=NEEDS_NO_GPU,
        ),
    ],
    ids=str,
)
@pytest.mark.usefixtures("no_cluster")
def test_a_plan_refuses_what_a_run_refuses_and_both_before_anything_starts(
    tmp_path: Path, tables: dict[str, Any], message: str
) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet")
    asked = config(tmp_path, **tables)
    for call in (estimate_job, driver.run):
        with pytest.raises(ConfigError, match=message):
            call(asked)
    assert not Path(asked.output.path).exists()


@pytest.mark.parametrize("is_submitted", [False, True], ids=["named", "submitted"])
def test_a_driver_without_gpus_may_plan_for_a_cluster_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_cluster: None, is_submitted: bool
) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet")
    if is_submitted:
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    runtime = {} if is_submitted else {"ray_address": "auto"}
    assert estimate_job(config(tmp_path, model={"device": "cuda"}, runtime=runtime)).rows == len(GROUPS)


@pytest.mark.parametrize(("is_listwise", "shown"), [(False, "512 tokens a pair"), (True, "512 tokens read at once")])
def test_the_longest_input_is_that_of_a_pair_or_of_what_is_read_at_once(
    tmp_path: Path, is_listwise: bool, shown: str
) -> None:
    write(nested_table(GROUPS), tmp_path / "a.parquet")
    estimate = estimate_job(config(tmp_path))
    estimate = replace(estimate, limits=replace(estimate.limits, is_listwise=is_listwise))
    assert dict(estimate.rows_to_show())["limits"].endswith(shown)
