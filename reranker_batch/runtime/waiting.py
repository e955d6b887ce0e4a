"""The nodes of the Ray in use, and a wait for those that its autoscaler may still start."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import placement_group, remove_placement_group

from reranker_batch.config import RuntimeConfig
from reranker_batch.core.backend import Device
from reranker_batch.job.cluster import cluster_address
from reranker_batch.runtime.placement import Node, NodesMissingError, Placement, place

logger = logging.getLogger(__name__)
_POLL_S = 1.0
_SAY_AGAIN_S = 60.0
_AUTOSCALER_ANSWERS_S = 30.0
"""An autoscaler looks at the demand every five seconds; one that has seen it and starts nothing will not."""


def nodes() -> list[Node]:
    """What the Ray of this process may give out."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(cpus=node.get("CPU", 0), gpus=node.get("GPU", 0)) for node in alive]


def place_on_cluster(runtime: RuntimeConfig, devices: Sequence[Device]) -> Placement:
    """Decide the pool; nodes that a cluster lacks for it are asked of its autoscaler and waited for.

    Where `devices` leaves it open, GPUs that the autoscaler starts are waited for too.

    Raises:
        NodesMissingError: They are not there within `runtime.start_timeout_s`, or can never come to a local Ray.
    """
    if cluster_address(runtime.ray_address) is None:
        return place(runtime, devices, nodes())
    until = time.monotonic() + runtime.start_timeout_s
    is_open = len(devices) > 1
    if is_open and not any(node.gpus for node in nodes()) and _gpus_are_coming(until):
        devices = ["cuda"]
    placement = _place_in_time(runtime, devices, until)
    if placement.device == "cpu" and is_open:
        logger.warning(
            "No node of the cluster has a GPU and none is being started: the model runs on CPUs. "
            "Set model.device: cuda for a run that has to wait for GPUs, cpu for one that need not look for them."
        )
    return placement


def _place_in_time(runtime: RuntimeConfig, devices: Sequence[Device], until: float) -> Placement:
    try:
        return place(runtime, devices, nodes())
    except NodesMissingError as error:
        logger.warning("%s Waiting for more, for %.0f s at most.", error, until - time.monotonic())
    say_at = time.monotonic() + _SAY_AGAIN_S
    with _demand(_bundles(runtime, devices)):
        while True:
            time.sleep(_POLL_S)
            try:
                return place(runtime, devices, nodes())
            except NodesMissingError as error:
                left = until - time.monotonic()
                if left <= 0:
                    waited = runtime.start_timeout_s
                    raise NodesMissingError(
                        f"{error} None came in runtime.start_timeout_s={waited:g} seconds."
                    ) from None
                if time.monotonic() >= say_at:
                    say_at += _SAY_AGAIN_S
                    logger.warning("Still waiting for nodes, for %.0f s at most.", left)


def _bundles(runtime: RuntimeConfig, devices: Sequence[Device]) -> list[dict[str, float]]:
    """What the smallest pool needs, as demand that an autoscaler sees."""
    share = runtime.gpus_per_replica
    each = {"GPU": 1.0 if share == "auto" else share} if "cpu" not in devices else {"CPU": 1.0}
    return [each] * runtime.min_replicas


@contextmanager
def _demand(bundles: list[dict[str, float]]) -> Iterator[None]:
    """Meanwhile Ray lacks a place for these bundles, which makes an autoscaler start nodes."""
    group = placement_group(bundles, strategy="PACK")
    try:
        yield
    finally:
        remove_placement_group(group)


def _gpus_are_coming(until: float) -> bool:
    """Whether the autoscaler of the cluster, if it has one, answers a demand for a GPU by starting nodes."""
    if not _has_autoscaler():
        return False
    logger.warning("No node has a GPU; asking the autoscaler of the cluster for one.")
    until = min(until, time.monotonic() + _AUTOSCALER_ANSWERS_S)
    with _demand([{"GPU": 1.0}]):
        while time.monotonic() < until:
            if _is_launching() or any(node.gpus for node in nodes()):
                return True
            time.sleep(_POLL_S)
    return False


def _has_autoscaler() -> bool:
    """Where none is, Ray reports each node as a type of its own, named after the node."""
    kinds = _report().get("node_type_mapping") or {}
    return is_autoscaler_v2() or any(not kind.startswith("node_") for kind in kinds.values())


def _is_launching() -> bool:
    """Whether nodes with GPUs are on the way; the second autoscaler does not say what nodes hold before they are up."""
    if is_autoscaler_v2():
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return bool(status.pending_launches or status.pending_nodes)
    return bool((_report().get("pending_resources") or {}).get("GPU"))


def _report() -> dict[str, Any]:
    """What the autoscaler has last said of itself."""
    status = _internal_kv_get(DEBUG_AUTOSCALING_STATUS)
    report: dict[str, Any] = (json.loads(status).get("autoscaler_report") or {}) if status else {}
    return report
