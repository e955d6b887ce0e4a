"""A Ray whose own processes die under a run: one message, a report, and the same command goes on."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from fault_jobs import faulty_input, oracle_job
from judge import judge, judge_unfinished, parts
from test_driver_faults import SLOW, start, wait_for_parts

from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("worker_environment")]


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_a_ray_that_dies_under_a_run_ends_it_with_a_message_and_a_report(tmp_path: Path, victim: str) -> None:
    groups = faulty_input(tmp_path, SLOW)
    driver = start("fault_driver.py", tmp_path)
    wait_for_parts(tmp_path, 2, driver)
    (process,) = [one for one in psutil.Process(driver.pid).children(recursive=True) if one.name() == victim]
    process.kill()
    output, _ = driver.communicate(timeout=150)
    assert driver.returncode == 1, output
    assert "error: " in output
    assert "Traceback" not in output
    judge_unfinished(tmp_path, groups, status="failed")
    before = parts(tmp_path)
    run_job(oracle_job(tmp_path), inline_engine)
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()
