"""The three steps of a unit as Ray Data runs them: two tasks and an actor that take and give blocks."""

from __future__ import annotations

import pyarrow as pa
import ray

from reranker_batch.job import steps
from reranker_batch.job.replica import Replica
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.printing import set_up_logging
from reranker_batch.runtime import blocks
from reranker_batch.runtime.tracker import TrackerClient


def prepare(block: pa.Table, *, spec: WorkerSpec) -> pa.Table:
    """See `job.steps.prepare`."""
    set_up_logging()  # what a worker logs may reach the driver's terminal
    return blocks.prepared_block(steps.prepare(blocks.read_unit_block(block), spec))


class ReplicaActor:
    """See `job.replica.Replica`."""

    def __init__(self, spec: WorkerSpec, tracker: TrackerClient) -> None:
        set_up_logging()
        context = ray.get_runtime_context()
        name = str(context.get_actor_id())  # the same in every process that Ray starts for one replica
        tracker.register(name, context.current_actor)
        self._replica = Replica(spec, tracker, name=name, node=str(context.get_node_id()))

    def __call__(self, block: pa.Table) -> pa.Table:
        return blocks.scored_block(self._replica(blocks.read_prepared(block)))


def finish_known(block: pa.Table, *, spec: WorkerSpec) -> pa.Table:
    """See `job.steps.take_over`; gives what `finish` gives."""
    set_up_logging()
    return pa.table({"entry": [steps.finish(steps.take_over(blocks.read_prepared(block)), spec).to_json()]})


def finish(block: pa.Table, *, spec: WorkerSpec) -> pa.Table:
    """See `job.steps.finish`; gives the entry of the part as JSON."""
    set_up_logging()
    return pa.table({"entry": [steps.finish(blocks.read_scored(block), spec).to_json()]})
