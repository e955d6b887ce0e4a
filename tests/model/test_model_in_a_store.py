"""A model in a store is copied once a machine, whole or not at all, and is the model that a run was planned with."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from object_store import object_store
from pyarrow import fs
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig, Reranker
from reranker_batch.cli import run_command
from reranker_batch.config import ModelConfig
from reranker_batch.core.backend import Where
from reranker_batch.errors import ConfigError, ModelError
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine, local_engine
from reranker_batch.model.local import LocalModel
from reranker_batch.storage.files.fetching import CACHE_VARIABLE, copy_folder
from reranker_batch.storage.files.filesystem import resolve
from reranker_batch.uris import BUILTIN_FOLDER

MINI = BUILTIN_FOLDER / "mini"
SETTINGS = "tokenizer_config.json"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def uri(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The small model, with files that are never read, in an object store."""
    with object_store(monkeypatch, "models") as options:
        upload(MINI, f"s3://models/a b/mini{options}")
        put(f"s3://models/a b/mini{options}", "pytorch_model.bin", b"a pickle")
        put(f"s3://models/a b/mini{options}", "modeling.py", b"raise SystemExit")
        yield f"s3://models/a b/mini{options}"


def put(uri: str, name: str, content: bytes) -> None:
    filesystem, path = resolve(uri)
    with filesystem.open_output_stream(f"{path}/{name}") as sink:
        sink.write(content)


def upload(folder: Path, uri: str) -> None:
    filesystem, path = resolve(uri)
    fs.copy_files(str(folder), path, destination_filesystem=filesystem)


def opened(name: str, **more: bool) -> LocalModel:
    return LocalModel.open(ModelConfig(name=name), copy_folder=copy_folder, **more)


def copies(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_a_model_in_a_store_is_the_same_as_in_a_folder(uri: str, cache: Path) -> None:
    there, here = opened(uri), LocalModel.open(ModelConfig(name="builtin:mini"))
    assert there.identity("cpu") == here.identity("cpu")
    assert there.description.name == uri
    [copy] = copies(cache)
    wanted = set(there.hashes or ())
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == wanted
    assert {"config.json", "model.safetensors"} <= wanted
    pair = [("what is a panda?", "A bear.")]
    np.testing.assert_array_equal(Reranker.open(uri).score(pair), Reranker.open("builtin:mini").score(pair))


def test_a_plan_copies_no_weights(uri: str, cache: Path) -> None:
    model = opened(uri, with_weights=False)
    assert model.load_encoder().max_pair_tokens == opened("builtin:mini").load_encoder().max_pair_tokens
    assert not [*cache.rglob("*.safetensors")]


def test_a_copy_serves_every_process_of_a_run_even_if_the_store_is_gone(uri: str, cache: Path) -> None:
    model = opened(uri)
    model.load_encoder()
    filesystem, path = resolve(uri)
    filesystem.delete_dir(path)
    arrived: LocalModel = pickle.loads(pickle.dumps(model))
    assert arrived.load_scorer(Where("cpu")) is not None
    with pytest.raises(ModelError, match="has no file of a model: nothing is there. Set model.name"):
        opened(uri)
    shutil.rmtree(cache)
    with pytest.raises(ModelError, match="nothing is there"):
        arrived.load_scorer(Where("cpu"))


def test_a_model_that_changed_is_another_model(uri: str, cache: Path) -> None:
    before = opened(uri)
    content = bytearray((MINI / "model.safetensors").read_bytes())
    content[-1] ^= 1
    put(uri, "model.safetensors", bytes(content))
    after = opened(uri)
    assert after.identity("cpu") != before.identity("cpu")
    assert before.load_scorer(Where("cpu")) is not None
    shutil.rmtree(cache)
    with pytest.raises(ModelError, match="are not those that the run was planned with, so two models would be mixed"):
        before.load_scorer(Where("cpu"))


def test_a_job_runs_with_a_model_in_a_store_and_is_resumed_with_the_same_only(uri: str, tmp_path: Path) -> None:
    write(nested_table(random_groups(3)), tmp_path / "in" / "a.parquet")
    config = JobConfig.of(
        {
            "input": {"path": str(tmp_path / "in")},
            "model": {"name": uri, "device": "cpu"},
            "output": {"path": str(tmp_path / "out")},
        }
    )
    assert run_job(open_job(config), local_engine).exit_code == 0
    elsewhere = config.model_copy(update={"model": ModelConfig(name="builtin:mini", device="cpu")})
    assert run_job(open_job(elsewhere), inline_engine).message.startswith("nothing to do")
    content = (MINI / SETTINGS).read_text() + " "
    put(uri, SETTINGS, content.encode())
    with pytest.raises(ConfigError, match=f"scoring.model.files.{SETTINGS}"):
        run_job(open_job(config), inline_engine)


def test_recipes_check_tries_a_model_in_a_store(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["recipes", "--check", uri]) == 0
    assert "canary pair" in capsys.readouterr().out


def test_a_revision_belongs_to_a_hub_model(uri: str) -> None:
    with pytest.raises(ModelError, match=r"model.revision='main' belongs to a hub model, and s3://models/a b/mini"):
        LocalModel.open(ModelConfig(name=uri, revision="main"), copy_folder=copy_folder)


def test_a_uri_of_this_machine_is_the_folder_itself(cache: Path) -> None:
    assert opened(MINI.as_uri()).identity("cpu") == opened("builtin:mini").identity("cpu")
    assert not cache.exists()


# --- copying


def copied(uri: str, is_wanted: Callable[[str], bool] = bool, version: str | None = None) -> Path:
    return copy_folder(uri, part="all", is_wanted=is_wanted, decides=bool, version=version).folder


@pytest.fixture
def stored(cache: Path) -> str:
    uri = f"memory://{uuid.uuid4().hex}/model"
    for name in ("config.json", "1_Dense/model.safetensors"):
        put(uri, name, name.encode() * 1000)
    return uri


def test_a_copy_is_made_once(stored: str) -> None:
    first = copied(stored)
    assert (first / "1_Dense/model.safetensors").read_bytes() == b"1_Dense/model.safetensors" * 1000
    (first / "mark").touch()
    assert (copied(stored + "/") / "mark").exists()
    put(stored, "config.json", b"other")
    assert not (copied(stored) / "mark").exists()


def test_what_a_dead_process_left_is_not_used(stored: str) -> None:
    copy = copied(stored)
    shutil.rmtree(copy)
    left = copy.with_name(f".{copy.name}.part")
    left.mkdir()
    (left / "config.json").write_text("half of it")
    again = copied(stored)
    assert again == copy
    assert (again / "config.json").stat().st_size == 11_000
    assert not left.exists()


def test_a_file_that_changes_while_it_is_copied_is_noticed(stored: str, cache: Path) -> None:
    def change(name: str) -> bool:
        put(stored, "config.json", b"shorter")
        return True

    with pytest.raises(ModelError, match=r"config.json was changed while it was copied: 7 bytes came and 11,000 were"):
        copied(stored, is_wanted=change)
    assert copies(cache) == []


def test_a_file_whose_content_changes_while_it_is_copied_is_noticed(uri: str, cache: Path) -> None:
    def change(name: str) -> bool:
        if name == SETTINGS:
            put(uri, SETTINGS, (MINI / SETTINGS).read_bytes()[::-1])
        return name == SETTINGS

    with pytest.raises(ModelError, match="was changed while it was copied"):
        copied(uri, is_wanted=change)
    assert copies(cache) == []


def test_a_full_disk_is_named_and_leaves_nothing(stored: str, cache: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ModelError, match=f"cannot be copied to {cache}: .*space.* set RERANKER_BATCH_CACHE"):
            copied(stored)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert copies(cache) == []
    assert copied(stored).is_dir()


def test_a_cache_that_cannot_be_written_is_named(stored: str, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(ModelError, match=f"cannot be copied to {cache}: .* set RERANKER_BATCH_CACHE to another folder"):
        copied(stored)


def test_names_that_lead_out_of_the_folder_are_not_copied(cache: Path) -> None:
    base = f"memory://{uuid.uuid4().hex}/model"
    put(base, "config.json", b"{}")
    fsspec.filesystem("memory").store[f"/{base.removeprefix('memory://')}/../evil.json"] = fsspec.filesystem(
        "memory"
    ).store[f"/{base.removeprefix('memory://')}/config.json"]
    assert [path.name for path in copied(base).iterdir()] == ["config.json"]
    assert not (cache / "evil.json").exists()


def test_processes_that_want_a_model_at_once_copy_it_once(uri: str, cache: Path) -> None:
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO); "
        "from reranker_batch.storage.files.fetching import copy_folder; "
        "copy_folder(sys.argv[1], part='all', is_wanted=bool, decides=bool, version=None)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, uri], stderr=subprocess.PIPE, env=environment, text=True)
        for _ in range(3)
    ]
    logs = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], logs
    assert sum(log.count("copying") for log in logs) == 1
    assert len(copies(cache)) == 1
