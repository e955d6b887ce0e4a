"""What makes two jobs the same, field by field. Starts no Ray."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_jobs import faulty_input, oracle_job
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.errors import FingerprintError
from reranker_batch.job.engine import Replicas
from reranker_batch.job.job import Job, open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import SerialEngine, local_engine
from reranker_batch.storage.filesystem import resolve


def job_of(folder: Path, **tables: dict[str, Any]) -> Job:
    values: dict[str, Any] = {
        "input": {"path": str(folder / "in")},
        "model": {"name": str(folder / "model")},
        "output": {"path": str(folder / "out")},
    }
    for name, more in tables.items():
        values[name] = values.get(name, {}) | more
    return open_job(JobConfig.of(values), with_weights=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(nested_table(random_groups(4), topic=["a"] * 4), tmp_path / "in" / "a.parquet")
    shutil.copytree(resolve("builtin:")[1] + "/mini", tmp_path / "model")
    return tmp_path


def settings_of(job: Job) -> dict[str, Any]:
    dtype = job.config.model.dtype
    return job.settings(dtype="float32" if dtype == "auto" else dtype)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"ranking": {"top_n": 7}}, "ranking.top_n: null -> 7"),
        ({"ranking": {"return_documents": True}}, "ranking.return_documents: false -> true"),
        ({"limits": {"max_documents": 9}}, "limits.max_documents: 500 -> 9"),
        ({"limits": {"max_item_tokens": 99}}, "limits.max_item_tokens: 4000 -> 99"),
        ({"limits": {"max_request_tokens": 20_000}}, "limits.max_request_tokens: 30000 -> 20000"),
        (
            {"limits": {"request_formula": "query_per_document"}},
            'request_formula: "query_once" -> "query_per_document"',
        ),
        ({"limits": {"max_pair_tokens": 50}}, "limits.max_pair_tokens: "),
        ({"limits": {"profile": "none"}}, "limits.max_documents: 500 -> null"),
        ({"output": {"layout": "nested"}}, 'output.layout: "pairs" -> "nested"'),
        ({"model": {"dtype": "bfloat16"}}, 'model.dtype: "float32" -> "bfloat16"'),
        ({"input": {"columns": {"passthrough": ["topic"]}}}, 'input.columns.passthrough: [] -> ["topic"]'),
        ({"input": {"columns": {"query_id": None}}}, 'input.columns.query_id: "query_id" -> null'),
    ],
    ids=str,
)
def test_a_setting_that_changes_results_is_named(folder: Path, change: dict[str, Any], line: str) -> None:
    change = {name: ({"path": str(folder / "in")} if name == "input" else {}) | more for name, more in change.items()}
    base, other = settings_of(job_of(folder)), settings_of(job_of(folder, **change))
    assert any(line in found for found in differences(base, other)), differences(base, other)
    assert fingerprint(base) != fingerprint(other)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_whose_files_changed_is_another_model(folder: Path, file: str) -> None:
    base = settings_of(job_of(folder))
    assert f"{file}" in str(base["model"]["files"])
    path = folder / "model" / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if file.endswith("tensors") else content + b"\n")
    [line] = differences(base, settings_of(job_of(folder)))
    assert line.startswith(f"model.files.{file}: ")


def test_recipe_version_activation_and_schema_are_part_of_it(folder: Path) -> None:
    job = job_of(folder)
    newer = replace(job, recipe=replace(job.recipe, version=job.recipe.version + 1, logit_shift=1.5))
    lines = differences(settings_of(job), settings_of(newer))
    assert [line.partition(":")[0] for line in lines] == ["recipe.activation.shift", "recipe.version"]
    assert settings_of(job)["schema_version"] >= 1
    assert settings_of(job)["model"].keys() == {"name", "revision", "files", "dtype", "instruct"}


def test_what_changes_no_result_may_change(folder: Path) -> None:
    base = job_of(folder)
    moved = folder / "elsewhere"
    shutil.copytree(folder / "in", moved)
    other = job_of(
        folder,
        input={"path": str(moved), "skip_bad_files": True},
        output={"path": str(folder / "out2"), "max_failed": 9},
        batching={"max_batch_tokens": 9_999},
        runtime={"max_replicas": 3, "unit_pairs": 2, "no_progress_timeout_s": 5},
    )
    assert differences(settings_of(base), settings_of(other)) == []
    assert differences(base.plan.identity(), other.plan.identity()) == []


@pytest.mark.parametrize("change", ["gone", "new", "rewritten", "touched"])
def test_an_input_that_changed_is_named_by_file(folder: Path, change: str) -> None:
    write(nested_table(random_groups(4, seed=1)), folder / "in" / "b.parquet")
    base = job_of(folder).plan.identity()
    b = folder / "in" / "b.parquet"
    if change == "gone":
        b.unlink()
    elif change == "new":
        write(nested_table(random_groups(2)), folder / "in" / "c.parquet")
    elif change == "rewritten":
        write(nested_table(random_groups(4, seed=2)), b)
    else:
        b.touch()
    lines = differences(base, job_of(folder).plan.identity())
    expected = "files.c.parquet." if change == "new" else "files.b.parquet."
    assert lines
    assert all(line.startswith(expected) for line in lines)
    if change == "touched":
        assert [line.partition(":")[0] for line in lines] == ["files.b.parquet.modified_ns"]


@contextmanager
def gpu_engine(config: JobConfig) -> Iterator[SerialEngine]:
    """Says that it computes on a GPU, which decides the precision; nothing is computed here."""
    with local_engine(config) as engine:
        engine.replicas = Replicas("cuda", 1, 0)
        yield engine


def test_a_run_that_goes_on_on_gpus_is_told_which_precision_to_set(tmp_path: Path) -> None:
    faulty_input(tmp_path, num_queries=6)
    run_job(oracle_job(tmp_path), local_engine)
    (tmp_path / "out" / "scores" / "_SUCCESS").unlink()
    next((tmp_path / "out" / "scores").glob("*.parquet")).unlink()
    with pytest.raises(FingerprintError, match=r"begun in float32: set model.dtype: float32 to go on here") as caught:
        run_job(oracle_job(tmp_path), gpu_engine)
    assert 'model.dtype: "float32" -> "bfloat16"' in str(caught.value)
    run_job(oracle_job(tmp_path, model={"dtype": "float32"}), gpu_engine)
    assert (tmp_path / "out" / "scores" / "_SUCCESS").exists()
