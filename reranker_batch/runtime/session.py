"""A Ray to run on: where it comes from, what it may give out, and its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from reranker_batch.errors import ConfigError
from reranker_batch.runtime.placement import Node
from reranker_batch.runtime.temp_folder import check_temp_folder

_LOCAL_OBJECT_STORE_BYTES = 2 << 30


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """A Ray to run on: the one that already serves this process, the cluster at `address`, or a local one.

    A local Ray is stopped at the end; it has no dashboard and listens to this machine alone.

    Raises:
        ConfigError: No cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray before 2.60 warns that this becomes usual
    try:
        if address is None:
            _start_local()
        else:
            ray.init(address=address, logging_level=logging.WARNING)
    except SystemExit:
        raise KeyboardInterrupt from None  # SIGTERM, by the handler that Ray puts in place before it is up
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"runtime.ray_address={address!r}: no Ray answers there. {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _start_local() -> None:
    """At least two CPUs are given out, so that a replica and a CPU step fit on any machine."""
    check_temp_folder()
    ray.init(
        address="local",
        num_cpus=max(2, os.cpu_count() or 1),
        object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def nodes() -> list[Node]:
    """What the Ray of this process may give out."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(cpus=node.get("CPU", 0), gpus=node.get("GPU", 0)) for node in alive]
