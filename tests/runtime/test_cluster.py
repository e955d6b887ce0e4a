"""A cluster as the documentation starts it, with jobs submitted to it: a head without CPUs and a node that has some."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_jobs import faulty_input, flags_of
from head import BIN, ROOT, Head, environment, wait_for_end
from judge import judge, judge_unfinished, parts
from ray.job_submission import JobStatus
from tables import nested_table, random_groups, write

from reranker_batch import verify_output

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("worker_environment")]
DRIVER = "tests/runtime/cluster_driver.py"


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
    head = Head.start(folder, "--num-cpus=0")
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
    job += ["--set", "input.columns.passthrough=[]", "--set", f"output.path={tmp_path}/out"]
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


def test_a_run_that_asks_for_gpus_waits_for_them(tmp_path: Path, head: Head) -> None:
    groups = faulty_input(tmp_path)
    refused = head.submit("impatient", DRIVER, str(tmp_path), "cuda", "2")
    assert "error: model.device=cuda, but Ray sees 0 GPUs on 2 nodes." in refused.stdout
    assert "None came in runtime.start_timeout_s=2 seconds." in refused.stdout
    client = head.client()
    assert client.get_job_info("impatient").driver_exit_code == 2
    head.submit("patient", DRIVER, str(tmp_path), "cuda", wait=False)
    until(lambda: "Waiting for more" in client.get_job_logs("patient"))
    head.add_node("--num-cpus=1", "--num-gpus=1")
    assert wait_for_end(client, "patient").driver_exit_code == 0, client.get_job_logs("patient")
    judge(tmp_path, groups)


def test_a_process_on_a_node_without_the_token_is_told_what_to_set(tmp_path: Path, head: Head) -> None:
    command = [str(BIN / "reranker-batch"), "run", "configs/quickstart.yaml"]
    command += ["--set", f"runtime.ray_address=127.0.0.1:{head.port}", "--set", f"output.path={tmp_path}/out"]
    run = subprocess.run(
        command, cwd=ROOT, env=environment(head.folder, home=tmp_path), capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 2, run.stderr
    assert "RAY_AUTH_TOKEN" in run.stderr
    assert "Traceback" not in run.stderr
