"""Nodes that a cloud takes back: while a model loads, with a notice, several times in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_jobs import faulty_input
from judge import judge
from test_driver_faults import QUICK_CHECKS, SLOW, start

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("worker_environment")]


def test_nodes_that_go_while_models_load_and_after_a_notice_cost_time_alone(tmp_path: Path) -> None:
    """More of them go in a start than a replica has starts: the model is not what fails."""
    groups = faulty_input(tmp_path, SLOW)
    driver = start("spot_driver.py", tmp_path, **QUICK_CHECKS)
    try:
        output, _ = driver.communicate(timeout=280)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    assert output.count("a node is lost in a start") == 4
    assert "drain True" in output
    judge(tmp_path, groups)
