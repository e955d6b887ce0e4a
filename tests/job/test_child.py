"""The child that starts before its parent has read the job: it is the one that scores, and nobody leaves it behind."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest
from fault_jobs import faulty_input, oracle_job
from judge import judge
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.errors import InputError
from reranker_batch.job.child import standby
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine, local_engine
from reranker_batch.runtime import driver


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "replica_child" in " ".join(child.cmdline())]


def test_the_first_child_is_the_one_on_standby_and_a_later_one_is_new(tmp_path: Path) -> None:
    """The pair kills its process once: the unit is scored again in a child that was not on standby."""
    groups = faulty_input(tmp_path, {(1, 0): "<kill:once>"})
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags" / "once.0").touch()
    with standby(is_wanted=True) as spare:
        (early,) = children()
        assert run_job(oracle_job(tmp_path), partial(local_engine, standby=spare)).exit_code == 0
        assert spare.take() is None
        assert not early.is_running()
    found = judge(tmp_path, groups)
    assert list(found["attempts"].values()) == [2]
    assert children() == []


def test_a_job_that_cannot_be_read_leaves_no_child(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.parquet").write_bytes(b"no Parquet")
    values = {
        "input": {"path": str(tmp_path / "in")},
        "model": {"name": "builtin:mini", "device": "cpu"},
        "output": {"path": str(tmp_path / "out")},
        "runtime": {"engine": "local"},
    }
    with pytest.raises(InputError):
        driver.run(JobConfig.of(values))
    assert children() == []


def test_a_complete_output_leaves_no_child(tmp_path: Path) -> None:
    write(nested_table(random_groups(2, max_candidates=3)), tmp_path / "in" / "a.parquet")
    values = {
        "input": {"path": str(tmp_path / "in")},
        "model": {"name": "builtin:mini", "device": "cpu"},
        "output": {"path": str(tmp_path / "out")},
        "runtime": {"engine": "local"},
    }
    config = JobConfig.of(values)
    assert run_job(open_job(config), inline_engine).exit_code == 0
    assert driver.run(config).message == "nothing to do: the output is complete"
    assert children() == []


def test_a_parent_that_is_killed_while_it_reads_the_job_leaves_no_child() -> None:
    code = "import time; from reranker_batch.job.child import standby\nwith standby(is_wanted=True): time.sleep(3600)"
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (started := psutil.Process(parent.pid).children()):
        assert parent.poll() is None
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(started, timeout=60)[1] == []


def test_the_child_can_start_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys, reranker_batch.cli, reranker_batch.runtime.driver;"
        "names = ('polars', 'pyarrow.parquet', 'ray', 'torch', 'transformers');"
        "print(*[name for name in names if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.split() == []
