"""A preparation may end at any place: the next one gives the same bytes, and makes nothing again that is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from engine import forks
from references import Reference, contents, prepare_in, prepared, queries_in

from reranker_batch.config import InputConfig
from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.core.mapping import Mapper
from reranker_batch.errors import InputError, ReplicaError
from reranker_batch.job.processes import in_this_process, processes
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.output import crash_points

TEXTS = {f"d{number}": f"text {number}" for number in range(40)}
ROWS = [(f"q{number % 6}", f"d{number % 40}", float(number)) for number in range(90)]
REFERENCE = Reference(ROWS, {f"q{number}": f"query {number}" for number in range(5)}, TEXTS)
NUM_RANGES, DOCUMENT_BUCKETS = 3, 2
NUM_TASKS = 1 + 1 + 1 + 1 + 3 + 1 + 2 + 3
"""Of the run, its ranges, their rows, the queries, their order, the corpus, its buckets, and the parts."""


def _in_a_process(config: PrepareConfig, goal: Path, crash_at: str) -> int:
    process = forks().Process(target=_armed, args=(config, goal, crash_at))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def _armed(config: PrepareConfig, goal: Path, crash_at: str) -> None:
    os.environ[crash_points.VARIABLE] = crash_at
    _prepare(config, goal)


def _prepare(config: PrepareConfig, goal: Path, each: Mapper = in_this_process) -> None:
    prepare_in(config, goal, num_ranges=NUM_RANGES, document_buckets=DOCUMENT_BUCKETS, each=each)


def files_in(goal: Path) -> dict[str, int]:
    """What is published, with its time."""
    return {
        str(path.relative_to(goal)): path.stat().st_mtime_ns
        for path in goal.rglob("*")
        if path.is_file() and "staging" not in path.parts and path.name != "_prepared.json"
    }


POINTS = [
    "prepare_begun:1",
    *(f"prepare_task_done:{number}" for number in range(1, NUM_TASKS + 1)),
    "prepare_missing_written:1",
    "prepare_recorded:1",
]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("right")
    _prepare(REFERENCE.write(folder), folder / "out")
    assert queries_in(folder / "out") == REFERENCE.joined()
    return contents(folder / "out")


@pytest.mark.parametrize("point", POINTS)
def test_what_was_killed_at_any_place_goes_on(tmp_path: Path, point: str, right: dict[str, bytes]) -> None:
    config, goal = REFERENCE.write(tmp_path), tmp_path / "out"
    assert _in_a_process(config, goal, point) == crash_points.EXIT_CODE, "the place was not reached"
    before = files_in(goal)
    prepared(config, goal)
    assert contents(goal) == right
    after = files_in(goal)
    assert {name: after[name] for name in before if name in after} == {n: t for n, t in before.items() if n in after}
    assert [name for name in after if name.startswith("_work")] == []


def test_input_that_is_not_whole_is_not_read(tmp_path: Path) -> None:
    config, goal = REFERENCE.write(tmp_path), tmp_path / "out"
    _in_a_process(config, goal, f"prepare_task_done:{NUM_TASKS - 1}")
    assert len([*goal.glob("part-*")]) == NUM_RANGES - 1
    with pytest.raises(InputError, match="is being prepared, or that was interrupted"):
        plan_input(InputConfig(path=str(goal)), unit_pairs="auto")
    prepared(config, goal)
    plan = plan_input(InputConfig(path=str(goal)), unit_pairs="auto")
    assert (len(plan.files), plan.num_pairs, plan.warnings) == (NUM_RANGES, len(ROWS), ())


def test_there_is_no_further_place(tmp_path: Path) -> None:
    assert _in_a_process(REFERENCE.write(tmp_path), tmp_path / "out", f"prepare_task_done:{NUM_TASKS + 1}") == 0


def test_processes_of_this_machine_write_the_same_bytes(tmp_path: Path, right: dict[str, bytes]) -> None:
    config = REFERENCE.write(tmp_path)
    with processes(2) as each:
        _prepare(config, tmp_path / "out", each)
        assert len(_children()) == 2
    assert contents(tmp_path / "out") == right
    assert _children() == []


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "call_child" in " ".join(child.cmdline())]


def test_errors_of_a_process_come_back_as_they_are() -> None:
    with processes(2) as each:
        assert list(each(str, [3, 1, 2])) == ["3", "1", "2"]
        with pytest.raises(ReplicaError, match="ValueError: invalid literal"):
            list(each(int, ["1", "x", "2"]))
        with pytest.raises(ReplicaError, match=r"ended in the middle of its work \(exit code 7\)"):
            list(each(os._exit, [7]))
        assert list(each(len, ["a", "bc"])) == [1, 2]


PARENT = """
import sys, time
from reranker_batch.core.mapping import Mapper
from reranker_batch.job.processes import in_this_process, processes
with processes(2) as each:
    list(each(time.sleep, [60.0, 60.0]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_processes_end_with_their_parent(how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment)
    until = time.monotonic() + 60
    while len(children := psutil.Process(parent.pid).children()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.send_signal(how)
    parent.wait(30)
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (len(gone), alive) == (2, [])
