"""Drivers that are stopped or killed, and a cluster that loses a node; the same command finishes the job."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_jobs import SILENCE_S, faulty_input, flags_of, oracle_job
from judge import judge, judge_unfinished, parts

from reranker_batch.runtime.driver import run_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("worker_environment")]

HERE = Path(__file__).parent
STOP_S = 20.0
"""A stop takes two or three seconds; the rest is for a busy machine."""
SLOW = {(row, 0): "<slow>" for row in range(24)}


def start(script: str, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """In a process group of its own, as a shell starts a command."""
    return subprocess.Popen(
        [sys.executable, str(HERE / script), str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def wait_for_parts(folder: Path, count: int, driver: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 100
    while len(list((folder / "out" / "scores").glob("*.parquet"))) < count:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


def signal_group(driver: subprocess.Popen[str]) -> None:
    """As a terminal does on Ctrl-C: to the driver and all that it started."""
    os.killpg(driver.pid, signal.SIGINT)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_stopped_driver_is_soon_gone_and_the_same_job_goes_on_from_its_parts(
    tmp_path: Path, how: signal.Signals
) -> None:
    groups = faulty_input(tmp_path, SLOW)
    driver = start("fault_driver.py", tmp_path)
    wait_for_parts(tmp_path, 2, driver)
    stopped = time.monotonic()
    if how == signal.SIGINT:
        signal_group(driver)
    else:
        driver.send_signal(how)
    output, _ = driver.communicate(timeout=STOP_S)
    took_s = time.monotonic() - stopped
    print(f"{how.name}: gone after {took_s:.1f} s")
    if how == signal.SIGKILL:
        assert driver.returncode == -signal.SIGKILL
    else:
        assert driver.returncode == 130, output
        assert output.endswith("interrupted: the same command goes on from here\n")
        judge_unfinished(tmp_path, groups, status="interrupted")
    before = parts(tmp_path)
    run_job(oracle_job(tmp_path))
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_stopped_replica_is_an_error_by_name_and_a_slow_one_is_none(tmp_path: Path) -> None:
    groups = faulty_input(tmp_path, {(1, 0): "<creep>", (20, 0): "<stop:once>"})
    flags_of(tmp_path).arm("once")
    driver = start("fault_driver.py", tmp_path, NO_PROGRESS_TIMEOUT_S=str(SILENCE_S))
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 1
    assert "Traceback" not in output
    assert re.search(
        r"error: The replica that scores unit 00000-\d+ has scored nothing for runtime.no_progress", output
    )
    report = judge_unfinished(tmp_path, groups, status="failed")
    assert "00000-0000000000" not in report["missing"]
    before = parts(tmp_path)
    run_job(oracle_job(tmp_path))
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()


@pytest.mark.slow
@pytest.mark.parametrize("num_gpus", ["0", "1"])
def test_a_node_that_is_lost_costs_time_alone(tmp_path: Path, num_gpus: str) -> None:
    """With a GPU on each node, there is no room for the lost replica while the other one is at work."""
    groups = faulty_input(tmp_path, SLOW)
    driver = start("node_loss_driver.py", tmp_path, num_gpus)
    try:
        output, _ = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    assert "a node is lost" in output
    judge(tmp_path, groups)
