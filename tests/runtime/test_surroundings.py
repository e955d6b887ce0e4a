"""Python that already has a Ray or a running event loop, and what Ray's workers import for us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import probes
import pyarrow as pa
import pytest
import ray
from fault_jobs import faulty_input, oracle_job, spec_of
from judge import judge
from tables import nested_table, random_groups

from reranker_batch import Reranker, RunReport, rerank_table
from reranker_batch.runtime import blocks
from reranker_batch.runtime.driver import run_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("worker_environment", "local_ray")]
FRESH = {"env_vars": {"RERANKER_BATCH_TEST": "a process that nothing has run in"}}


async def _here(run: Callable[[], RunReport]) -> RunReport:
    return run()


@pytest.mark.parametrize("engine", ["auto", "local"])
@pytest.mark.parametrize("where", [_here, asyncio.to_thread], ids=["the loop", "a thread"])
def test_a_run_inside_a_ray_and_an_event_loop(
    tmp_path: Path, engine: str, where: Callable[[Callable[[], RunReport]], Awaitable[RunReport]]
) -> None:
    """`auto` takes the Ray that is there. Either way it is there afterwards, and so is the loop."""
    groups = faulty_input(tmp_path)
    node = ray.get_runtime_context().get_node_id()
    job = oracle_job(tmp_path, runtime={"engine": engine})

    async def main() -> RunReport:
        report = await where(lambda: run_job(job))
        await asyncio.sleep(0)
        return report

    assert asyncio.run(main()).exit_code == 0
    judge(tmp_path, groups)
    manifest = json.loads((tmp_path / "out" / "run" / "manifest.json").read_text())
    assert manifest["engine"] == ("ray" if engine == "auto" else "local")
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_node_id() == node


def test_a_table_in_memory_is_reranked_inside_a_ray() -> None:
    """In the driver and in a task, with equal scores."""
    frame = nested_table(random_groups(3, seed=1))

    def scores() -> list[float]:
        table = rerank_table(frame, model=Reranker.open("builtin:mini", device="cpu"))
        values: list[float] = table["relevance_score"].to_pylist()
        return values

    task: Any = ray.remote(scores)
    assert scores() == pytest.approx(ray.get(task.options(num_cpus=1).remote()), abs=1e-5)


def test_workers_import_no_library_of_models_for_the_tracker_and_the_steps(tmp_path: Path) -> None:
    """The job's tokenizer here is none of transformers'; its own needs what it needs."""
    faulty_input(tmp_path)
    job = oracle_job(tmp_path)
    block = pa.Table.from_pylist([blocks.unit_block(job.plan.units[0])])
    task: Any = ray.remote(probes.modules_after_prepare).options(num_cpus=0, runtime_env=FRESH)
    tracker: Any = ray.remote(probes.TrackerProbe).options(num_cpus=0, runtime_env=FRESH).remote(1)
    assert ray.get(task.remote(block, spec_of(job))) == {"pyarrow"}
    assert ray.get(tracker.modules.remote()) == set()
