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

_CONTAINER = {"name!": str, "image": str, "workingDir": str, "resources": {"limits": {"*": (str, int)}}}
_POD = {"spec": {"serviceAccountName": str, "containers!": [_CONTAINER]}}
_WORKERS = {"groupName!": str, "replicas": int, "minReplicas!": int, "maxReplicas!": int, "template!": _POD}
FIELDS: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str},
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "backoffLimit": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "authOptions": {"mode": str},
            "enableInTreeAutoscaling": bool,
            "headGroupSpec!": {"rayStartParams": {"*": str}, "template!": _POD},
            "workerGroupSpecs": [{"rayStartParams": {"*": str}, **_WORKERS}],
        },
    },
}
"""The fields of a RayJob that the file uses, as the definitions of KubeRay 1.5.1, 1.6.2 and 1.7.0 have them.

`!` marks a field that must be there, `*` any name.
"""


def faults(value: Any, expected: Any, place: str = "") -> list[str]:
    """What a field of the file has that its definition does not allow."""
    if isinstance(expected, list):
        return [fault for item in value for fault in faults(item, expected[0], f"{place}[]")]
    if not isinstance(expected, dict):
        is_right = isinstance(value, expected) and (expected is bool or not isinstance(value, bool))
        return [] if is_right else [f"{place}: {value!r}"]
    fields = {name.removesuffix("!"): inner for name, inner in expected.items()}
    missing = [f"{place}.{name[:-1]} is missing" for name in expected if name.endswith("!") and name[:-1] not in value]
    unknown = [f"{place}.{name}" for name in value if name not in fields and "*" not in fields]
    known = {name: fields.get(name, fields.get("*")) for name in value if f"{place}.{name}" not in unknown}
    inner = [fault for name, kind in known.items() for fault in faults(value[name], kind, f"{place}.{name}")]
    return [*missing, *unknown, *inner]


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
    python, script, option, path, set_option, override = shlex.split(spec["entrypoint"])
    assert (python, option, set_option) == ("python", "--config", "--set")
    assert (ROOT / script).exists()
    config = JobConfig.load(ROOT / path, overrides=[override])
    assert config.output.path.endswith("/NIGHT")
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


def test_every_field_of_the_job_is_one_that_kuberay_knows() -> None:
    """An unknown field is dropped in silence, or refused, when the file is applied."""
    job = yaml.safe_load((ROOT / "configs" / "kuberay" / "rayjob.yaml").read_text(encoding="utf-8"))
    assert faults(job, FIELDS) == []
    assert job["spec"]["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")


def test_a_fault_in_a_job_is_noticed() -> None:
    group = {"rayStartParams": {"num-cpus": 0}, "template": {"spec": {"containers": [{"nam": "ray-head"}]}}}
    wrong = {"spec": {"rayClusterSpec": {"headGroupSpecs": {}}, "backoffLimit": True}}
    assert faults(wrong, FIELDS) == [
        ".spec.rayClusterSpec.headGroupSpec is missing",
        ".spec.rayClusterSpec.headGroupSpecs",
        ".spec.backoffLimit: True",
    ]
    assert faults(group, FIELDS["spec"]["rayClusterSpec"]["headGroupSpec!"], "head") == [
        "head.rayStartParams.num-cpus: 0",
        "head.template.spec.containers[].name is missing",
        "head.template.spec.containers[].nam",
    ]


def test_the_image_copies_what_is_there_and_what_the_job_needs(spec: dict[str, Any]) -> None:
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    for path in (part for part in shlex.split(spec["entrypoint"]) if "/" in part and "=" not in part):
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
