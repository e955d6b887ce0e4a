"""Units through the three steps on Ray Data."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import ray.data
from ray.util.annotations import RayDeprecationWarning

from reranker_batch.core.isolation import MAX_DEATHS
from reranker_batch.core.units import WorkUnit
from reranker_batch.runtime import blocks, steps
from reranker_batch.runtime.ledger import LedgerClient
from reranker_batch.runtime.placement import Placement

_TASK_RETRIES = 5
"""Of one unit's prepare or finish task whose process was lost."""


def max_deaths(num_units: int) -> int:
    """Deaths of replicas that a run takes: all that one unit may cost, and one for every unit."""
    return MAX_DEATHS + num_units


def process_units(
    units: Sequence[WorkUnit],
    job: steps.JobSpec,
    placement: Placement,
    ledger: LedgerClient,
    *,
    no_progress_timeout_s: float,
) -> Iterator[dict[str, Any]]:
    """Run all units; yields the entry of each part as soon as it is published, in no certain order."""
    _configure_data(no_progress_timeout_s)
    dataset = ray.data.from_items([blocks.unit_block(unit) for unit in units], override_num_blocks=len(units))
    for row in _steps(dataset, job, placement, ledger, num_units=len(units)).iter_rows():
        yield json.loads(row["part"])


def _steps(dataset: Any, job: steps.JobSpec, placement: Placement, ledger: LedgerClient, *, num_units: int) -> Any:
    # One row is a whole block, a unit; with GPUs Ray Data does not take None for that.
    as_is: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    pool = ray.data.ActorPoolStrategy(
        min_size=placement.min_replicas,
        max_size=max(placement.min_replicas, min(placement.max_replicas, num_units)),
        max_tasks_in_flight_per_actor=2,
    )
    task: dict[str, Any] = {"fn_kwargs": {"job": job}, "num_cpus": placement.step_cpus, "max_retries": _TASK_RETRIES}
    if not placement.step_cpus:
        task["compute"] = ray.data.TaskPoolStrategy(size=placement.max_replicas)
    deaths = 2 * max_deaths(num_units)  # the ledger ends a run earlier and says why; this is for what it cannot see
    with warnings.catch_warnings():
        # Restarts without end are Ray Data's default, and it has no named parameters yet to bound them.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        prepared = dataset.map_batches(steps.prepare, **task, **as_is)
        scored = prepared.map_batches(
            steps.Replica,
            fn_constructor_kwargs={"job": job, "ledger": ledger},
            compute=pool,
            num_cpus=placement.num_cpus,
            num_gpus=placement.num_gpus,
            max_restarts=deaths,
            max_task_retries=deaths,
            **as_is,
        )
        return scored.map_batches(steps.finish, **task, **as_is)


def _configure_data(no_progress_timeout_s: float) -> None:
    """A unit is never split, never dropped, and a standstill is an error."""
    context = ray.data.DataContext.get_current()
    context.target_max_block_size = None
    context.max_errored_blocks = 0
    context.execution_no_progress_timeout_s = no_progress_timeout_s
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    # Its tracebacks are for who looks for a mistake in this program; `explain` words every error for all others.
    is_wanted = logging.getLogger("reranker_batch").isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.data").setLevel(logging.WARNING if is_wanted else logging.CRITICAL)
