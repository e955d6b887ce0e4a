"""A driver on a cluster of its own, whose second node is lost again and again: `spot_driver.py FOLDER`.

A node goes four times while a replica on it loads its model, each time another one comes; then one is told to drain
and goes at its deadline, in the middle of its units.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from fault_jobs import flags_of, oracle_job
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]  # generated

from reranker_batch.runtime.driver import run_job

NODE: dict[str, Any] = {"object_store_memory": 100 << 20, "num_cpus": 2, "num_gpus": 1}
LOADS = 4
"""Nodes that go while a replica loads; more than the starts that a replica has."""
GRACE_S = 3.0


def lose_nodes(cluster: Cluster, node: Any, folder: Path, run: Future[Any]) -> None:
    flags, scores = flags_of(folder), folder / "out" / "scores"
    for turn in range(1, LOADS + 1):
        until(lambda: not any(flags.folder.glob("start_hangs.*")), run)
        cluster.remove_node(node, allow_graceful=False)
        print("a node is lost in a start", flush=True)
        if turn < LOADS:
            flags.arm("start_hangs")
        node = cluster.add_node(**NODE)
    until(lambda: len(list(scores.glob("*.parquet"))) >= 2, run)
    drain(cluster.address, node.node_id)
    time.sleep(GRACE_S)
    cluster.remove_node(node, allow_graceful=False)
    print("a node is lost after a notice", flush=True)
    cluster.add_node(**NODE)


def drain(address: str, node_id: str) -> None:
    """The notice that a cloud gives before it takes a node back."""
    reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + GRACE_S) * 1000)
    is_accepted, why = GcsClient(address=address).drain_node(node_id, reason, "", deadline_ms)
    print("drain", is_accepted, why, flush=True)


def until(is_so: Callable[[], bool], run: Future[Any]) -> None:
    while not is_so() and not run.done():
        time.sleep(0.1)


def main(folder: Path) -> int:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_gpus": 0, "include_dashboard": False})
    node = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    flags_of(folder).arm("start_hangs")
    with ThreadPoolExecutor(1) as thread:  # nodes can be added in the main thread alone
        run = thread.submit(run_job, oracle_job(folder, model={"device": "cuda"}, runtime={"max_replicas": 1}))
        lose_nodes(cluster, node, folder, run)
        report = run.result()
    ray.shutdown()
    cluster.shutdown()  # left to the interpreter's exit, it ends the process with 1 once a node is gone
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
