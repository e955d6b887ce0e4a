"""Processes that die, hang or raise inside a run, on both engines; the oracle judges what comes out."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import ray
from fault_jobs import SILENCE_S, faulty_input, flags_of, oracle_job, write_input
from judge import judge, judge_unfinished, parts

from reranker_batch import RunReport
from reranker_batch.errors import ModelError, PairTooLongError, ReplicaError, RerankerBatchError, StalledError
from reranker_batch.runtime.driver import run_job

pytestmark = pytest.mark.usefixtures("worker_environment")

SOON_S = 240.0
"""Below the time limit of a test, far above what a busy machine takes: up to 107 s were seen."""


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """What runs the job. Afterwards nothing of the run is left at work."""
    if request.param == "ray":
        request.getfixturevalue("local_ray")
    yield request.param
    if request.param == "ray":
        wait_until(lambda: living_actors() == [])
    assert [child for child in psutil.Process().children() if "replica_child" in " ".join(child.cmdline())] == []


def run(folder: Path, engine: str, **tables: dict[str, object]) -> RunReport:
    runtime = {"engine": engine, **tables.pop("runtime", {})}
    return run_job(oracle_job(folder, runtime=runtime, **tables))


def test_a_pair_that_no_process_survives_costs_no_other_pair(tmp_path: Path, engine: str) -> None:
    """One kills its process, one always raises, one needs more memory than the process may have.

    The deadly pair stands twice in its query: equal pairs are one input and share its fate.
    """
    groups = faulty_input(tmp_path, {(2, 0): "<kill>", (12, 1): "<grow>", (20, 3): "<raise>"})
    groups[2][2].append(("twin", groups[2][2][0][1]))
    write_input(tmp_path, groups)
    report = run(tmp_path, engine, output={"max_failed": 4})
    twin = len(groups[2][2]) - 1
    dead = {(2, 0): "process_died", (2, twin): "process_died", (12, 1): "scoring_failed", (20, 3): "scoring_failed"}
    found = judge(tmp_path, groups, dead=dead)
    assert report.exit_code == 0
    assert list(found["attempts"].values()) == [5, 5, 5]


def test_faults_that_pass_leave_no_trace_but_a_number(tmp_path: Path, engine: str) -> None:
    """A replica killed, an error in scoring, two false starts of the replica; on Ray a prepare task killed too."""
    groups = faulty_input(tmp_path, {(1, 0): "<kill:once>", (22, 0): "<raise:now_and_then>", (5, 0): "<split>"})
    flags = flags_of(tmp_path)
    names = ("once", "now_and_then", "start_dies", "start_raises", *(("prepare",) if engine == "ray" else ()))
    for name in names:
        flags.arm(name)
    assert run(tmp_path, engine).exit_code == 0
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
def test_a_replica_that_never_starts_ends_the_run_with_one_message(
    tmp_path: Path, engine: str, fault: str, error: type[RerankerBatchError], message: str
) -> None:
    groups = faulty_input(tmp_path)
    flags_of(tmp_path).arm(fault, times=99)
    with pytest.raises(error, match=message):
        run(tmp_path, engine)
    assert message in judge_unfinished(tmp_path, groups, status="failed")["message"]


@pytest.mark.ray
def test_a_step_that_never_works_ends_the_run_with_one_message(tmp_path: Path, local_ray: None) -> None:
    """On Ray alone: without it, the process of the step is the driver."""
    groups = faulty_input(tmp_path)
    flags_of(tmp_path).arm("prepare", times=99)
    message = "lost processes or nodes more often than work is tried again"
    with pytest.raises(ReplicaError, match=message):
        run(tmp_path, "ray")
    assert message in judge_unfinished(tmp_path, groups, status="failed")["message"]


def test_an_error_that_concerns_the_whole_job_names_its_unit_and_frees_the_replicas(
    tmp_path: Path, engine: str
) -> None:
    """Held by the traceback of the error, a replica would keep its device from the next run of the process."""
    groups = faulty_input(tmp_path, {(2, 0): "<refuse>"})
    with pytest.raises(PairTooLongError, match=r"^a pair is too long$") as caught:
        run(tmp_path, engine)
    assert caught.value.unit_id == "00000-0000000000"
    judge_unfinished(tmp_path, groups, status="failed")
    if engine == "ray":
        wait_until(lambda: ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"])


def test_a_stopped_replica_is_an_error_by_name_and_a_slow_one_is_none(tmp_path: Path, engine: str) -> None:
    groups = faulty_input(tmp_path, {(1, 0): "<creep>", (20, 0): "<stop:once>"})
    flags_of(tmp_path).arm("once")
    message = f"has scored nothing for runtime.no_progress_timeout_s={SILENCE_S} seconds"
    with pytest.raises(StalledError, match=message) as caught:
        run(tmp_path, engine, runtime={"no_progress_timeout_s": SILENCE_S})
    report = judge_unfinished(tmp_path, groups, status="failed")
    assert caught.value.unit_id in report["missing"]
    assert "00000-0000000000" not in report["missing"]
    before = parts(tmp_path)
    run(tmp_path, engine)
    judge(tmp_path, groups)
    assert before.items() <= parts(tmp_path).items()


@pytest.mark.ray
@pytest.mark.slow
def test_workers_killed_at_random_do_not_change_the_result(tmp_path: Path, local_ray: None) -> None:
    marks = {(row, 0): "<slow>" for row in range(24)}
    groups = faulty_input(tmp_path, marks)
    with killing(times=4, every_s=2.0) as killed:
        run_job(oracle_job(tmp_path, runtime={"max_replicas": 2, "min_replicas": 2}))
    judge(tmp_path, groups)
    assert killed


def living_actors() -> list[str]:
    """Of runs; Ray Data keeps some of its own."""
    actors = [actor for actor in ray._private.state.actors().values() if actor["State"] != "DEAD"]
    names = [str(actor["ActorClassName"]) for actor in actors]
    return [name for name in names if "ReplicaActor" in name or "_Tracker" in name]


def wait_until(is_true: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON_S
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.5)


@contextmanager
def killing(*, times: int, every_s: float) -> Iterator[list[str]]:
    """Meanwhile, SIGKILL workers of this session's Ray that run a step; gives their names as they die."""
    chance, is_over = random.Random(3), threading.Event()
    killed: list[str] = []

    def kill() -> None:
        while len(killed) < times and not is_over.wait(every_s):
            workers = [process for process in psutil.Process().children(recursive=True) if _is_step(process)]
            if workers:
                victim = chance.choice(workers)
                killed.append(" ".join(victim.cmdline()))
                victim.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


def _is_step(process: psutil.Process) -> bool:
    try:
        return " ".join(process.cmdline()).startswith(("ray::MapBatches", "ray::MapWorker"))
    except psutil.NoSuchProcess:
        return False
