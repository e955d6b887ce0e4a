"""A Ray to run on: where it comes from, who may reach it, and its end."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import auto_init_hook
from ray.exceptions import AuthenticationError

from reranker_batch.errors import ConfigError, first_line
from reranker_batch.job.cluster import cluster_address
from reranker_batch.runtime.local_ray import start_local_ray

_CONNECT_S = 1.0
_TOKEN_ADVICE = (
    "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token that the cluster was started with."
)


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """A Ray to run on: the one that already serves this process, the cluster at `address`, or a local one.

    A local Ray is stopped at the end; it has no dashboard and only processes of this machine reach it.

    Raises:
        ConfigError: No cluster can be used at the address, or no Ray can be started here.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray before 2.60 warns that this becomes usual
    cluster = cluster_address(address)
    try:
        if cluster is None:
            start_local_ray()
        else:
            join(cluster)
    except SystemExit:
        raise KeyboardInterrupt from None  # SIGTERM, by the handler that Ray puts in place before it is up
    try:
        yield
    finally:
        if lost_process() is None:
            ray.shutdown()
        else:  # A shutdown waits for what is gone; and threads of Ray Data that go on would start a Ray of their own.
            auto_init_hook.enable_auto_connect = False


def lost_process() -> str | None:
    """Which of the two processes that a driver cannot do without takes no connection; None where both do.

    Ray ends the driver's process, without a word to Python, 15 seconds after its raylet has died and 60 seconds after
    the GCS has.
    """
    node: Any = ray._private.worker._global_node
    try:
        with socket.socket(socket.AF_UNIX) as raylet:
            raylet.settimeout(_CONNECT_S)
            raylet.connect(node.raylet_socket_name)
    except OSError:
        return "the raylet of the driver's node"
    try:
        host, _, port = node.gcs_address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError:
        return "the GCS of the cluster"
    return None


def join(address: str) -> None:
    """Connect this process to the cluster at `address`, which it must be a node of.

    Raises:
        ConfigError: No cluster can be used at the address.
    """
    if address.startswith(("http://", "https://", "ray://")):
        raise ConfigError(
            f"runtime.ray_address={address!r}: a run joins a cluster from one of its nodes. Use auto on a node of the "
            "cluster, or `ray job submit` with the address of its dashboard, and runtime.ray_address: auto."
        )
    try:
        ray.init(address=address, logging_level=logging.WARNING)
    except (AuthenticationError, ConnectionError, ValueError, RuntimeError) as error:
        advice = _TOKEN_ADVICE if _is_about_tokens(error) else ""
        raise ConfigError(f"runtime.ray_address={address!r} cannot be used: {first_line(error)}. {advice}") from None


def _is_about_tokens(error: BaseException) -> bool:
    """Ray tells of a wrong token in the text of an error that it wraps into others."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, AuthenticationError) or "InvalidAuthToken" in str(chain):
            return True
        chain = chain.__cause__
    return False
