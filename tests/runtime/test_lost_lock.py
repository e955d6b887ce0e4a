"""A run that was taken for dead, and is not."""

import dataclasses
import threading
import time
from pathlib import Path

import pytest
from fault_jobs import faulty_input, oracle_job
from judge import parts

from reranker_batch.errors import CommitError
from reranker_batch.runtime.driver import run_job
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.lock_files import LockFiles, Owner

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_a_run_whose_lock_was_taken_over_publishes_no_more(tmp_path: Path) -> None:
    faulty_input(tmp_path, {(row, 0): "<slow>" for row in range(24)})
    files = LockFiles.of(Folder.at(str(tmp_path / "out")))

    def take_over() -> None:
        while not parts(tmp_path):
            time.sleep(0.02)
        first = files.newest()
        assert first is not None
        assert first.owner is not None
        second = dataclasses.replace(Owner.this_process("second", took_over=first.owner.run_id), start_ticks=1)
        files.create(2, second)
        files.remove(1)

    thread = threading.Thread(target=take_over)
    (tmp_path / "out" / "scores").mkdir(parents=True)
    thread.start()
    with pytest.raises(CommitError, match=r"has lost .* to run second"):
        run_job(oracle_job(tmp_path))
    thread.join()
    assert 0 < len(parts(tmp_path)) < 8
    assert not (tmp_path / "out" / "scores" / "_SUCCESS").exists()
    run = tmp_path / "out" / "run"
    assert not (run / "report.json").exists()
    assert [path.name for path in run.glob("lock.*")] == ["lock.2"]
