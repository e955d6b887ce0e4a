"""The files for a cluster fit together: job, image, config and the versions that are installed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from reranker_batch import JobConfig

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    job = yaml.safe_load((ROOT / "configs" / "kuberay" / "rayjob.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    found: dict[str, Any] = job["spec"]
    return found


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = spec["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [container for group in groups(spec) for container in group["template"]["spec"]["containers"]]


def test_the_job_runs_a_script_and_a_config_of_the_image_on_gpus_that_its_workers_have(spec: dict[str, Any]) -> None:
    python, script, option, path = shlex.split(spec["entrypoint"])
    assert (python, option) == ("python", "--config")
    assert (ROOT / script).exists()
    config = JobConfig.load(ROOT / path)
    assert (config.runtime.ray_address, config.model.device) == ("auto", "cuda")
    workers = containers(spec)[1:]
    assert [worker["resources"]["limits"]["nvidia.com/gpu"] for worker in workers] == ["1"]


def test_the_cluster_asks_for_a_token_and_a_failed_job_is_tried_again(spec: dict[str, Any]) -> None:
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"]


def test_all_nodes_have_one_image_with_the_ray_of_the_constraints(spec: dict[str, Any]) -> None:
    assert len({container["image"] for container in containers(spec)}) == 1
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    assert spec["rayClusterSpec"]["rayVersion"] == pinned[1]
    for container in containers(spec):
        assert f"WORKDIR {container['workingDir']}" in DOCKERFILE
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_ray_takes_only_text_for_its_start_parameters(spec: dict[str, Any]) -> None:
    for group in groups(spec):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_image_copies_what_is_there_and_what_the_job_needs(spec: dict[str, Any]) -> None:
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    for path in (part for part in shlex.split(spec["entrypoint"]) if "/" in part):
        assert Path(path).parts[0] in copied


def test_the_python_of_the_image_may_install_the_project() -> None:
    image = re.search(r"^FROM python:(\d+)\.(\d+)-slim$", DOCKERFILE, re.MULTILINE)
    least = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert image
    assert least
    assert tuple(map(int, image.groups())) >= tuple(map(int, least.groups()))


def test_the_project_installs_what_the_cluster_commands_need() -> None:
    import ray.dashboard.optional_deps
    import ray.job_submission  # noqa: F401

    assert "ray[data,default]" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
