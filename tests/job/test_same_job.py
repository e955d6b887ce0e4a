"""What makes two jobs the same, field by field. Starts no Ray."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fault_jobs import faulty_input, oracle_job
from tables import nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.config import ModelConfig
from reranker_batch.config.plain import SectionType, section_of
from reranker_batch.core.activation import Activation
from reranker_batch.core.backend import Device
from reranker_batch.core.fingerprint import Settings, differences
from reranker_batch.errors import FingerprintError
from reranker_batch.job.engine import Replicas
from reranker_batch.job.job import Job, open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import SerialEngine, local_engine
from reranker_batch.model.local import LocalModel
from reranker_batch.model.recipes import RECIPES, Prompt
from reranker_batch.storage.files.filesystem import resolve
from reranker_batch.storage.input.changes import input_changes

UNTRIED = object()
"""The mini model takes no instruction and no other recipe, and has one label; a local folder has no revision, and some
gates need a key of another section."""
PROMPTED = cast(Prompt, RECIPES["qwen3-reranker"].prompt)


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
    table = nested_table(random_groups(4), topic=["a"] * 4)
    write(table.append_column("others", table["candidates"]), tmp_path / "in" / "a.parquet")
    shutil.copytree(resolve("builtin:")[1] + "/mini", tmp_path / "model")
    return tmp_path


def settings_of(job: Job) -> Settings:
    return job.settings("cpu")


KEYS: dict[str, tuple[str | None, Any, list[str]]] = {
    "input.path": (None, "elsewhere", []),
    "input.format": (None, UNTRIED, []),
    "input.layout": ("output", "pairs", ["input.layout"]),
    "input.columns.query_id": ("output", None, ["input.columns.query_id"]),
    "input.columns.query": ("output", "topic", ["input.columns.query"]),
    "input.columns.candidates": ("output", "others", ["input.columns.candidates"]),
    "input.columns.doc_id": ("output", None, ["input.columns.doc_id"]),
    "input.columns.document": ("output", "doc_id", ["input.columns.document"]),
    "input.columns.separator": (None, "|", []),
    "input.columns.passthrough": ("output", ["topic"], ["input.columns.passthrough"]),
    "input.skip_bad_files": (None, True, []),
    "input.check_pages": (None, True, []),
    "prepare.run.path": (None, UNTRIED, []),
    "prepare.run.query_id": (None, UNTRIED, []),
    "prepare.run.doc_id": (None, UNTRIED, []),
    "prepare.run.score": (None, UNTRIED, []),
    "prepare.run.rank": (None, UNTRIED, []),
    "prepare.run_format": (None, UNTRIED, []),
    "prepare.queries.path": (None, UNTRIED, []),
    "prepare.queries.id": (None, UNTRIED, []),
    "prepare.queries.text": (None, UNTRIED, []),
    "prepare.corpus.path": (None, UNTRIED, []),
    "prepare.corpus.id": (None, UNTRIED, []),
    "prepare.corpus.text": (None, UNTRIED, []),
    "prepare.depth": (None, UNTRIED, []),
    "prepare.output": (None, UNTRIED, []),
    "prepare.on_missing": (None, UNTRIED, []),
    "prepare.on_duplicate_id": (None, UNTRIED, []),
    "prepare.drop_identical_ids": (None, UNTRIED, []),
    "model.name": (None, "moved", []),
    "model.revision": (None, UNTRIED, []),
    "model.recipe": ("scoring", UNTRIED, []),
    "model.instruct": ("scoring", UNTRIED, []),
    "model.positive_label": ("scoring", UNTRIED, []),
    "model.dtype": ("scoring", "bfloat16", ["model.dtype"]),
    "model.device": (None, "cpu", []),
    "model.trust_remote_code": ("scoring", True, ["model.trust_remote_code"]),
    "model.precision_sample": (None, 3, []),
    "limits.profile": ("limits", "qwen3-rerank", ["max_request_tokens", "request_formula"]),
    "limits.max_documents": ("limits", 9, ["max_documents"]),
    "limits.max_item_tokens": ("scoring", 99, ["limits.max_item_tokens"]),
    "limits.max_request_tokens": ("limits", 20_000, ["max_request_tokens"]),
    "limits.request_formula": ("limits", "query_per_document", ["request_formula"]),
    "limits.max_pair_tokens": ("scoring", 50, ["limits.max_pair_tokens"]),
    "limits.long_documents": ("scoring", UNTRIED, []),
    "ranking.top_n": ("output", 7, ["top_n"]),
    "ranking.return_documents": ("output", True, ["return_documents"]),
    "output.path": (None, "out2", []),
    "output.layout": ("output", "nested", ["layout"]),
    "output.max_failed": (None, 9, []),
    "output.memo": (None, False, []),
    "batching.max_batch_tokens": (None, 9_999, []),
    "reuse.from": (None, "earlier", []),
    "reuse.verify_sample": (None, 9, []),
    "reuse.max_logit_difference": (None, 0.5, []),
    "reuse.max_age_nights": (None, 3, []),
    "reuse.required": (None, True, []),
    "report.compare_with": (None, "earlier", []),
    "report.qrels": (None, "qrels", []),
    "gates.max_queries_changed": (None, UNTRIED, []),
    "gates.min_overlap_at_10": (None, UNTRIED, []),
    "gates.min_ndcg_at_10": (None, UNTRIED, []),
    "gates.max_truncated": (None, "5%", []),
    "runtime.engine": (None, "local", []),
    "runtime.ray_address": (None, "auto", []),
    "runtime.min_replicas": (None, 2, []),
    "runtime.max_replicas": (None, 3, []),
    "runtime.gpus_per_replica": (None, 0, []),
    "runtime.unit_pairs": (None, 2, []),
    "runtime.start_timeout_s": (None, 5.0, []),
    "runtime.no_progress_timeout_s": (None, 5.0, []),
}
"""Every key of the config: the one part of the settings that it is in, a value that is tried, and what changes in it.

A key in no part decides nothing: `model.name` and `model.revision` only where files are, and those are hashed.
"""


def keys_of(section: SectionType, prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        yield from [prefix + name] if inner is None else keys_of(inner, f"{prefix}{name}.")


def test_no_key_is_forgotten() -> None:
    assert list(keys_of(JobConfig)) == list(KEYS)


@pytest.mark.parametrize("key", [key for key, (_, value, _) in KEYS.items() if value is not UNTRIED])
def test_a_key_changes_the_part_it_is_in_and_nothing_else(folder: Path, key: str) -> None:
    """Only what is in `scoring` costs reused scores; a key that decides nothing may change between two attempts."""
    part, value, names = KEYS[key]
    base = settings_of(job_of(folder))
    if key in ("input.path", "model.name", "output.path"):
        value = str(folder / value)
        shutil.copytree(folder / ("in" if key == "input.path" else "model"), value)
    if key == "input.layout":
        write(pairs_table(random_groups(4)), folder / "in" / "a.parquet")
    section, _, rest = key.partition(".")
    change = {rest: value} if "." not in rest else {rest.partition(".")[0]: {rest.partition(".")[2]: value}}
    other = settings_of(job_of(folder, **{section: change}))
    lines = differences(base.to_dict(), other.to_dict())
    assert [line.partition(": ")[0] for line in lines] == sorted(f"{part}.{name}" for name in names)
    assert (base.scoring_fingerprint == other.scoring_fingerprint) == (part != "scoring")
    assert (base.fingerprint == other.fingerprint) == (part is None)


def test_a_profile_may_set_a_limit_that_cuts_texts(folder: Path) -> None:
    base, other = settings_of(job_of(folder)), settings_of(job_of(folder, limits={"profile": "none"}))
    assert "scoring.limits.max_item_tokens: 4000 -> null" in differences(base.to_dict(), other.to_dict())


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_whose_files_changed_is_another_model(folder: Path, file: str) -> None:
    base = settings_of(job_of(folder))
    path = folder / "model" / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if file.endswith("tensors") else content + b"\n")
    other = settings_of(job_of(folder))
    [line] = differences(base.to_dict(), other.to_dict())
    assert line.startswith(f"scoring.model.files.{file}: ")
    assert base.scoring_fingerprint != other.scoring_fingerprint


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"version": 9}, "scoring.recipe.version"),
        ({"name": "other"}, "scoring.recipe.name"),
        ({"instruct": "Find it."}, "scoring.recipe.instruct"),
        ({"positive_label": 1}, "scoring.recipe.positive_label"),
        ({"prompt": replace(PROMPTED, negative="never")}, "scoring.recipe.prompt.negative"),
        ({"prompt": replace(PROMPTED, pieces=(*PROMPTED.pieces[:-1], "!"))}, "scoring.recipe.prompt.pieces"),
        ({"activation": Activation(shift=1.5)}, "output.activation.shift"),
        ({"description": "d", "examples": (), "source": "s"}, None),
    ],
    ids=str,
)
def test_what_a_recipe_says_of_a_logit_is_scoring_and_its_activation_is_output(
    changes: dict[str, Any], name: str | None
) -> None:
    recipe = RECIPES["qwen3-reranker"]
    config = ModelConfig(name="m")
    base, other = LocalModel(config, recipe, "", {}), LocalModel(config, replace(recipe, **changes), "", {})
    lines = differences(*(json.loads(json.dumps(parts_of(backend))) for backend in (base, other)))
    assert [line.partition(": ")[0] for line in lines] == ([] if name is None else [name])


def parts_of(backend: LocalModel) -> dict[str, Any]:
    return {"scoring": backend.identity("cpu"), "output": {"activation": backend.activation.to_dict()}}


def test_the_precision_of_a_job_is_that_of_its_device(folder: Path) -> None:
    job = job_of(folder)
    lines = differences(job.settings("cpu").to_dict(), job.settings("cuda").to_dict())
    assert lines == ['scoring.model.dtype: "float32" -> "bfloat16"']


def test_settings_survive_the_json_of_the_manifest(folder: Path) -> None:
    recorded = settings_of(job_of(folder)).to_dict()
    assert json.loads(json.dumps(recorded)) == recorded


CHANGES = {
    "gone": "input: b.parquet is gone",
    "new": "input: c.parquet is new",
    "rewritten": r"input: b.parquet has changed \([0-9]+ -> [0-9]+ bytes, another footer, another time of change\)",
    "touched": r"input: b.parquet has changed \(another time of change\)",
}


@pytest.mark.parametrize("change", CHANGES)
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
    [line] = input_changes(base, job_of(folder).plan.identity())
    assert re.fullmatch(CHANGES[change], line)


def test_of_many_files_that_changed_the_first_are_named() -> None:
    files = {f"{number:04}.parquet": {"num_rows": 1, "size_bytes": 9, "modified_ns": 7} for number in range(5_000)}
    lines = input_changes({"files": files, "partitions": {}}, {"files": {}, "partitions": {"day": "x"}})
    assert lines[:2] == ['input.partitions.day: (absent) -> "x"', "input: 0000.parquet is gone"]
    assert lines[-1] == "and 4,981 more"
    assert len(lines) == 21


@contextmanager
def gpu_engine(config: JobConfig, devices: Sequence[Device]) -> Iterator[SerialEngine]:
    """Says that it computes on a GPU, which decides the precision; nothing is computed here."""
    with local_engine(config, devices) as engine:
        engine.replicas = Replicas("cuda", 1, 0)
        yield engine


def test_a_run_that_goes_on_on_gpus_is_told_which_precision_to_set(tmp_path: Path) -> None:
    faulty_input(tmp_path, num_queries=6)
    run_job(oracle_job(tmp_path), local_engine)
    (tmp_path / "out" / "scores" / "_SUCCESS").unlink()
    next((tmp_path / "out" / "scores").glob("*.parquet")).unlink()
    with pytest.raises(FingerprintError, match=r"begun in float32: set model.dtype: float32 to go on here") as caught:
        run_job(oracle_job(tmp_path), gpu_engine)
    assert 'scoring.model.dtype: "float32" -> "bfloat16"' in str(caught.value)
    run_job(oracle_job(tmp_path, model={"dtype": "float32"}), gpu_engine)
    assert (tmp_path / "out" / "scores" / "_SUCCESS").exists()
