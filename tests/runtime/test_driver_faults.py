"""Drivers that are stopped or killed, and a cluster that loses a node; the same command finishes the job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_jobs import faulty_input, oracle_job
from judge import judge, judge_unfinished, parts

from reranker_batch.runtime.driver import run_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("worker_environment")]

HERE = Path(__file__).parent
STOP_S = 20.0
"""A stop takes two or three seconds; the rest is for a busy machine."""
SLOW = {(row, 0): "<slow>" for row in range(24)}
MANY = 64
"""Queries of a job that two drivers do not come to the end of."""
QUICK_CHECKS = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "2"}
"""A node that is gone is called dead after seconds; half a minute is Ray's default."""


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
def test_a_stopped_driver_is_soon_gone_and_the_same_job_goes_on_from_its_parts(tmp_path: Path) -> None:
    """One driver is stopped, the next killed, the last left alone; SIGTERM is the matter of test_session.py."""
    groups = faulty_input(tmp_path, {(row, 0): "<slow>" for row in range(MANY)}, num_queries=MANY)
    before: dict[str, tuple[int, bytes]] = {}
    for how in (signal.SIGINT, signal.SIGKILL):
        driver = start("fault_driver.py", tmp_path)
        wait_for_parts(tmp_path, len(before) + 1, driver)
        stop(driver, how)
        if how != signal.SIGKILL:
            judge_unfinished(tmp_path, groups, status="interrupted")
        assert before.items() <= parts(tmp_path).items()
        before = parts(tmp_path)
    run_job(oracle_job(tmp_path))
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()


def stop(driver: subprocess.Popen[str], how: signal.Signals) -> str:
    """Signal a driver and see it end in time, as it should; gives what it said."""
    if how == signal.SIGINT:
        signal_group(driver)
    else:
        driver.send_signal(how)
    output, _ = driver.communicate(timeout=STOP_S)
    if how == signal.SIGKILL:
        assert driver.returncode == -signal.SIGKILL
    else:
        assert driver.returncode == 130, output
        assert output.endswith("interrupted: the same command goes on from here\n")
    return output


@pytest.mark.slow
@pytest.mark.parametrize("num_gpus", ["0", "1"])
def test_a_node_that_is_lost_costs_time_alone(tmp_path: Path, num_gpus: str) -> None:
    """With a GPU on each node, there is no room for the lost replica while the other one is at work."""
    groups = faulty_input(tmp_path, SLOW)
    driver = start("node_loss_driver.py", tmp_path, num_gpus, **QUICK_CHECKS)
    try:
        output, _ = driver.communicate(timeout=200)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    assert "a node is lost" in output
    judge(tmp_path, groups)
