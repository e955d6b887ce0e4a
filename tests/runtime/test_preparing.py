"""Input is prepared by tasks on Ray where a run uses one, and by this machine where the tables are small."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from references import Reference, contents, prepare_in

from reranker_batch.config import RuntimeConfig
from reranker_batch.errors import ReplicaError
from reranker_batch.job.processes import in_this_process
from reranker_batch.runtime.mapping import tasks_on_ray
from reranker_batch.runtime.preparing import WORTH_PROCESSES_BYTES, WORTH_RAY_BYTES, mapper

RAY = RuntimeConfig(engine="ray")
pytestmark = pytest.mark.ray


@pytest.mark.usefixtures("local_ray")
def test_tasks_on_ray_write_the_same_bytes(tmp_path: Path) -> None:
    rows = [(f"q{number % 9}", f"d{number % 50}", float(number)) for number in range(200)]
    texts = {f"d{number}": f"text {number}" for number in range(50)}
    config = Reference(rows, {f"q{number}": "query" for number in range(9)}, texts).write(tmp_path)
    prepare_in(config, tmp_path / "here", num_ranges=3, document_buckets=2)
    with mapper(RAY, WORTH_PROCESSES_BYTES + 1) as each:
        assert each is tasks_on_ray
        prepare_in(config, tmp_path / "there", num_ranges=3, document_buckets=2, each=each)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.usefixtures("local_ray")
def test_results_keep_their_order_and_a_lost_task_is_an_error() -> None:
    assert list(tasks_on_ray(str, list(range(40)))) == [str(number) for number in range(40)]
    with pytest.raises(ReplicaError, match="A task on Ray failed"):
        list(tasks_on_ray(os._exit, [1]))


def test_small_tables_need_neither_ray_nor_processes() -> None:
    with mapper(RAY, WORTH_PROCESSES_BYTES) as each:
        assert each is in_this_process
    with mapper(RuntimeConfig(engine="local"), WORTH_RAY_BYTES + 1) as each:
        assert list(each(len, ["a"])) == [1]
