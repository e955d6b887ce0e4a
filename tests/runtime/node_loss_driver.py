"""A driver on a cluster of its own, which loses a node once parts are published: `node_loss_driver.py FOLDER`."""

from __future__ import annotations

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


def main(folder: Path) -> int:
    store = {"object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **store, "include_dashboard": False})
    other = cluster.add_node(num_cpus=2, **store)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    threading.Thread(target=lose, args=(cluster, other, folder / "out" / "scores"), daemon=True).start()
    report = run_job(oracle_job(folder, runtime={"min_replicas": 2, "max_replicas": 2}))
    print(f"exit code {report.exit_code}", flush=True)
    ray.shutdown()
    cluster.shutdown()  # left to the interpreter's exit, it ends the process with 1 once a node is gone
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
