"""A local Ray in a process of its own; says who listens where while it is at work, as JSON."""

from __future__ import annotations

import json
import logging

import psutil
import ray

from reranker_batch.runtime.session import ray_session


@ray.remote
def worker_sockets() -> list[str]:
    return listening(psutil.Process())


def listening(process: psutil.Process) -> list[str]:
    return [str(found.laddr.ip) for found in process.net_connections("inet") if found.status == psutil.CONN_LISTEN]


def main() -> None:
    with ray_session(None):
        addresses = {"worker": ray.get(worker_sockets.remote())}
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            addresses[f"{process.pid} {process.name()}"] = listening(process)
    print(json.dumps(addresses))


if __name__ == "__main__":
    logging.basicConfig(level="WARNING")
    main()
