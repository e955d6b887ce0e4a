"""A driver on a cluster of its own, which loses a node once parts are published.

`node_loss_driver.py FOLDER 1` makes believe that each node has a GPU, so that no other node has room for its replica.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from fault_jobs import oracle_job
from ray.cluster_utils import Cluster

from reranker_batch.runtime.driver import run_job


def lose(cluster: Cluster, node: Any, scores: Path) -> None:
    while len(list(scores.glob("*.parquet"))) < 2:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
    print("a node is lost", flush=True)


def main(folder: Path, num_gpus: int) -> int:
    node: dict[str, Any] = {"object_store_memory": 100 << 20, "num_cpus": 2, "num_gpus": num_gpus}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    other = cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    threading.Thread(target=lose, args=(cluster, other, folder / "out" / "scores"), daemon=True).start()
    device = "cuda" if num_gpus else "cpu"
    job = oracle_job(folder, model={"device": device}, runtime={"min_replicas": 2, "max_replicas": 2})
    report = run_job(job)
    print(f"exit code {report.exit_code}", flush=True)
    ray.shutdown()
    cluster.shutdown()  # left to the interpreter's exit, it ends the process with 1 once a node is gone
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
