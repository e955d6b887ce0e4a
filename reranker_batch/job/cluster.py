"""Whether a run may leave this machine. Imports no Ray."""

from __future__ import annotations

import os
import sys

from reranker_batch.config import RuntimeConfig


def cluster_address(address: str | None) -> str | None:
    """The cluster that `runtime.ray_address` means, None for a local Ray.

    In a job that was submitted to a cluster, no address means that cluster.
    """
    if address is None and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def is_ray_in_use() -> bool:
    """Whether this process has a Ray already."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def stays_here(runtime: RuntimeConfig) -> bool:
    """Whether the run can use nothing but this machine, whatever engine it takes."""
    return runtime.engine == "local" or (cluster_address(runtime.ray_address) is None and not is_ray_in_use())
