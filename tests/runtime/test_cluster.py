"""A cluster as the documentation starts it, with jobs submitted to it: a head without CPUs and a node that has some."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_jobs import faulty_input, flags_of
from head import BIN, ROOT, Head, environment, wait_for_end
from judge import judge, judge_unfinished, parts
from ray.job_submission import JobStatus
from tables import nested_table, random_groups, write

from reranker_batch import verify_output

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("worker_environment")]
NODE_ID = "f" * 56
DRIVER = "tests/runtime/cluster_driver.py"
_TABLES = ("auth", "docker", "file_mounts")
_LISTS = [
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
    *("rsync_exclude", "rsync_filter"),
]
AUTOSCALER: dict[str, Any] = {
    "cluster_name": "test",
    "max_workers": 2,
    "idle_timeout_minutes": 5,
    "upscaling_speed": 1.0,
    "file_mounts_sync_continuously": False,
    "provider": {"type": "fake_multinode", "head_node_id": NODE_ID, "launch_multiple": True},
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": 2},
    },
    **{key: {} for key in _TABLES},
    **{key: [] for key in _LISTS},
}
"""One that starts a node for every demand for a GPU, and never brings it up: it looks for the head at a fixed port."""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="head"))
    subprocess.run(
        "umask 077 && ray get-auth-token --generate",
        shell=True,
        env=environment(folder),
        check=True,
        capture_output=True,
    )
    (folder / "autoscaler.json").write_text(json.dumps(AUTOSCALER))
    named = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": NODE_ID}
    head = Head.start(folder, "--num-cpus=0", f"--autoscaling-config={folder}/autoscaler.json", **named)
    try:
        head.add_node("--num-cpus=4")
        yield head
    finally:
        head.stop()


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.3)


def test_a_submitted_job_runs_on_the_cluster_and_nothing_is_run_without_the_token(tmp_path: Path, head: Head) -> None:
    write(nested_table(random_groups(20)), tmp_path / "in" / "a.parquet")
    (tmp_path / "home").mkdir()
    job = ["jobs/rerank.py", "--config", "configs/quickstart.yaml", "--set", f"input.path={tmp_path}/in"]
    job += [
        "--set",
        "input.columns.passthrough=[]",
        "--set",
        "model.device=cpu",
        "--set",
        f"output.path={tmp_path}/out",
    ]
    options = ["job", "submit", "--address", head.address, "--working-dir", "."]
    refused = head.ray(*options, "--", "python", *job, home=tmp_path / "home")
    assert refused.returncode == 1
    assert "authentication token" in refused.stderr
    assert not (tmp_path / "out").exists()
    submitted = head.submit("first", *job)
    assert submitted.returncode == 0, submitted.stdout
    assert verify_output(str(tmp_path / "out")).problems == []
    assert head.client().get_job_info("first").driver_exit_code == 0


def test_the_exit_code_of_a_job_is_the_commands_and_the_client_says_1(head: Head) -> None:
    submitted = head.submit("wrong", "jobs/rerank.py", "--config", "no-such.yaml")
    assert submitted.returncode == 1
    assert "error: Config file no-such.yaml cannot be read" in submitted.stdout
    assert head.client().get_job_info("wrong").driver_exit_code == 2


def test_two_jobs_at_once_a_stop_and_a_resume(tmp_path: Path, head: Head) -> None:
    """The first hangs on a unit until it is stopped; meanwhile another output is written and the same one refused."""
    client, one, other = head.client(), tmp_path / "one", tmp_path / "other"
    groups, others = faulty_input(one, {(20, 0): "<hang:once>"}), faulty_input(other)
    flags_of(one).arm("once")
    assert head.submit("hangs", DRIVER, str(one), wait=False).returncode == 0
    until(lambda: len(parts(one)) > 1 and not list(flags_of(one).folder.iterdir()))
    head.submit("other", DRIVER, str(other), wait=False)
    same = head.submit("same", DRIVER, str(one))
    assert "error: Another run is at work on output.path" in same.stdout
    assert client.get_job_info("same").driver_exit_code == 2
    assert wait_for_end(client, "other").status == JobStatus.SUCCEEDED
    judge(other, others)
    assert head.ray("job", "stop", "--address", head.address, "hangs").returncode == 0
    assert wait_for_end(client, "hangs").status == JobStatus.STOPPED
    assert "interrupted: the same command goes on from here" in client.get_job_logs("hangs")
    judge_unfinished(one, groups, status="interrupted")
    before = parts(one)
    again = head.submit("again", DRIVER, str(one))
    assert again.returncode == 0, again.stdout
    judge(one, groups)
    assert before.items() <= parts(one).items()


def test_gpus_that_are_asked_for_or_being_started_are_waited_for(tmp_path: Path, head: Head) -> None:
    """With the device left open, what the autoscaler starts on demand decides."""
    client, asked, open_ = head.client(), tmp_path / "asked", tmp_path / "open"
    groups, others = faulty_input(asked), faulty_input(open_)
    refused = head.submit("impatient", DRIVER, str(asked), "cuda", "2")
    assert "error: model.device=cuda, but Ray sees 0 GPUs on 2 nodes." in refused.stdout
    assert "None came in runtime.start_timeout_s=2 seconds." in refused.stdout
    assert client.get_job_info("impatient").driver_exit_code == 2
    head.submit("asked", DRIVER, str(asked), "cuda", wait=False)
    head.submit("open", DRIVER, str(open_), "auto", wait=False)
    for job in ("asked", "open"):
        until(lambda job=job: "Waiting for more" in client.get_job_logs(job))  # type: ignore[misc]
    assert "asking the autoscaler of the cluster for one" in client.get_job_logs("open")
    head.add_node("--num-cpus=2", "--num-gpus=2")
    for job in ("asked", "open"):
        assert wait_for_end(client, job).driver_exit_code == 0, client.get_job_logs(job)
    judge(asked, groups)
    judge(open_, others)


def test_a_process_on_a_node_without_the_token_is_told_what_to_set(tmp_path: Path, head: Head) -> None:
    command = [str(BIN / "reranker-batch"), "run", "configs/quickstart.yaml"]
    command += ["--set", f"runtime.ray_address=127.0.0.1:{head.port}", "--set", f"output.path={tmp_path}/out"]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(head.folder, home=tmp_path), capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 2, run.stderr
    assert "RAY_AUTH_TOKEN" in run.stderr
    assert "Traceback" not in run.stderr
