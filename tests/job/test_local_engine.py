"""A model in a child process that dies, hangs or cannot start; the oracle judges what comes out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fault_jobs import SILENCE_S, faulty_input, flags_of, oracle_job, write_input
from judge import judge, judge_unfinished, parts

from reranker_batch.core.report import RunReport
from reranker_batch.errors import ModelError, PairTooLongError, ReplicaError, RerankerBatchError, StalledError
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import local_engine


def run(folder: Path, **tables: dict[str, object]) -> RunReport:
    return run_job(oracle_job(folder, **tables), local_engine)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "replica_child" in " ".join(child.cmdline())]


def test_a_pair_that_kills_its_process_or_always_raises_costs_no_other_pair(tmp_path: Path) -> None:
    """The deadly pair stands twice in its query: equal pairs are one input and share its fate."""
    groups = faulty_input(tmp_path, {(2, 0): "<kill>", (20, 3): "<raise>"})
    groups[2][2].append(("twin", groups[2][2][0][1]))
    write_input(tmp_path, groups)
    report = run(tmp_path, output={"max_failed": 3})
    twin = len(groups[2][2]) - 1
    dead = {(2, 0): "process_died", (2, twin): "process_died", (20, 3): "scoring_failed"}
    found = judge(tmp_path, groups, dead=dead)
    assert report.exit_code == 0
    assert list(found["attempts"].values()) == [5, 5]
    assert children() == []


def test_faults_that_pass_leave_no_trace_but_a_number(tmp_path: Path) -> None:
    groups = faulty_input(tmp_path, {(1, 0): "<kill:once>", (22, 0): "<raise:now_and_then>", (5, 0): "<split>"})
    flags = flags_of(tmp_path)
    for name in ("once", "now_and_then", "start_dies", "start_raises"):
        flags.arm(name)
    assert run(tmp_path).exit_code == 0
    found = judge(tmp_path, groups)
    assert list(found["attempts"].values()) == [2, 2]
    assert found["oom_splits"] == 1
    assert not list(flags.folder.iterdir())


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("start_refused", ModelError, "weights of the model are damaged"),
        ("start_raises", ReplicaError, "could not start in 3 attempts: OSError: the disk of the model is gone"),
        ("start_dies", ReplicaError, "could not start in 3 attempts: its process died"),
    ],
)
def test_what_never_works_ends_the_run_with_one_message(
    tmp_path: Path, fault: str, error: type[RerankerBatchError], message: str
) -> None:
    groups = faulty_input(tmp_path)
    flags_of(tmp_path).arm(fault, times=99)
    with pytest.raises(error, match=message):
        run(tmp_path)
    assert message in judge_unfinished(tmp_path, groups, status="failed")["message"]
    assert children() == []


def test_an_error_that_concerns_the_whole_job_names_its_unit(tmp_path: Path) -> None:
    groups = faulty_input(tmp_path, {(2, 0): "<refuse>"})
    with pytest.raises(PairTooLongError, match=r"^a pair is too long$") as caught:
        run(tmp_path)
    assert caught.value.unit_id == "00000-0000000000"
    judge_unfinished(tmp_path, groups, status="failed")


def test_a_unit_that_takes_longer_than_a_replica_may_be_silent_is_no_standstill(tmp_path: Path) -> None:
    groups = faulty_input(tmp_path, {(1, 0): "<creep>"})
    assert run(tmp_path, runtime={"no_progress_timeout_s": SILENCE_S}).exit_code == 0
    judge(tmp_path, groups)


def test_a_replica_that_was_stopped_is_a_standstill_by_name_and_the_run_goes_on_later(tmp_path: Path) -> None:
    groups = faulty_input(tmp_path, {(20, 0): "<stop:once>"})
    flags_of(tmp_path).arm("once")
    with pytest.raises(StalledError, match="runtime.no_progress_timeout_s=8 seconds") as caught:
        run(tmp_path, runtime={"no_progress_timeout_s": SILENCE_S})
    assert caught.value.unit_id in judge_unfinished(tmp_path, groups, status="failed")["missing"]
    assert children() == []
    before = parts(tmp_path)
    assert before
    run(tmp_path)
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()


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
    run(tmp_path)
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()
