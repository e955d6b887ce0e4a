"""A driver without Ray that is stopped or killed; the oracle judges what comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fault_jobs import faulty_input, oracle_job, write_input
from judge import judge, judge_unfinished, parts
from nightly import move_logits

from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine, local_engine

DRIVER = """
import sys
from pathlib import Path
from fault_jobs import oracle_job
from reranker_batch.cli import guarded
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import local_engine
sys.exit(guarded(lambda: run_job(oracle_job(Path(sys.argv[1])), local_engine).exit_code)())
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_stopped_driver_takes_its_replica_along_and_the_same_job_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    groups = faulty_input(tmp_path, {(row, 0): "<slow>" for row in range(24)})
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while len(parts(tmp_path)) < 2:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    replicas = psutil.Process(driver.pid).children()
    assert replicas
    os.killpg(driver.pid, how) if how == signal.SIGINT else driver.send_signal(how)
    _, shown = driver.communicate(timeout=60)
    gone, alive = psutil.wait_procs(replicas, timeout=30)
    assert (len(gone), alive) == (len(replicas), [])
    if how == signal.SIGKILL:
        assert driver.returncode == -signal.SIGKILL
    else:
        assert (driver.returncode, shown) == (130, "interrupted: the same command goes on from here\n")
        judge_unfinished(tmp_path, groups, status="interrupted")
    before = parts(tmp_path)
    run_job(oracle_job(tmp_path), inline_engine)
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_replica_checks_reused_pairs_before_a_part_is_published(tmp_path: Path, is_moved: bool) -> None:
    groups = faulty_input(tmp_path)
    run_job(oracle_job(tmp_path), inline_engine)
    (tmp_path / "out").rename(tmp_path / "last")
    if is_moved:
        move_logits(tmp_path / "last")
    groups[3] = ("q3", "another query", groups[3][2])
    write_input(tmp_path, groups)
    report = run_job(oracle_job(tmp_path, reuse={"from": str(tmp_path / "last")}), local_engine)
    judge(tmp_path, groups)
    assert report.reuse is not None
    assert report.reuse.check is not None
    assert report.reuse.check.is_within != is_moved
    assert report.totals.reused == (0 if is_moved else report.totals.scored - len(groups[3][2]))
