"""Whether a run may leave this machine. Imports no Ray."""

from __future__ import annotations

import os
import sys

from reranker_batch.config import RuntimeConfig

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_OF_RAY = ("RAY_ADDRESS", SUBMITTED)
"""Set where a cluster is named, and inside of a job that was submitted to one."""


def cluster_address(address: str | None) -> str | None:
    """The cluster that `runtime.ray_address` means, None for a local Ray.

    In a job that was submitted to a cluster, no address means that cluster.
    """
    if address is None and SUBMITTED in os.environ:
        return os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address


def is_ray_in_use() -> bool:
    """Whether this process has a Ray already."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def stays_here(runtime: RuntimeConfig) -> bool:
    """Whether the run can use nothing but this machine, whatever engine it takes."""
    return runtime.engine == "local" or (cluster_address(runtime.ray_address) is None and not is_ray_in_use())


def is_ray_named(runtime: RuntimeConfig) -> bool:
    """Whether the config or the environment names a Ray, one is in use, or several replicas are asked for."""
    if runtime.engine != "auto":
        return runtime.engine == "ray"
    is_named = runtime.ray_address is not None or any(name in os.environ for name in _OF_RAY)
    is_many = runtime.min_replicas > 1 or runtime.max_replicas not in ("auto", 1)
    return is_named or is_ray_in_use() or is_many
