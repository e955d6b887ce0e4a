"""A Ray of this machine's own, which nobody else can reach."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants

from reranker_batch.errors import ConfigError

logger = logging.getLogger(__name__)
_OBJECT_STORE_BYTES = 2 << 30
_SOCKET_NAME = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Of Ray's longest socket, below its temporary folder."""
_MAX_SOCKET_BYTES = 107
"""Of the path of an AF_UNIX socket on Linux."""


def start_local_ray() -> None:
    """Start a Ray without a dashboard that listens on loopback only and asks for a token.

    At least two CPUs are given out, so that a replica and a CPU step fit on any machine.

    Raises:
        ConfigError: It cannot start here; the message says why.
    """
    check_socket_paths(get_default_system_temp_dir())
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        logger.warning("RAY_AUTH_MODE is not token: every user of this machine can run code in this local Ray.")
    elif not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        protect_token(Path.home() / ".ray" / "auth_token")
    try:
        with _on_loopback(), _quiet_backend():
            ray.init(
                address="local",
                num_cpus=max(2, os.cpu_count() or 1),
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"No Ray can be started on this machine: {error}") from None
    if not ray.util.get_node_ip_address().startswith(("127.", "::1")):
        logger.warning(
            "The ports of the local Ray are open to the network: this version of Ray does not bind to loopback."
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray binds every port to loopback where it believes that a machine cannot be part of a cluster.

    It has no setting for that: it replaces a loopback address that it is given with the address of the machine.
    """
    could = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = could


@contextmanager
def _quiet_backend() -> Iterator[None]:
    """Ray's C++ part writes to the terminal itself: how Ray Data starts actors, in red, and that it was told not to.

    The level is read while a process connects, and holds for its log files too. Errors of Ray reach Python as
    exceptions. Who looks for a mistake (RERANKER_BATCH_LOG=DEBUG) sees and keeps all.
    """
    if logging.getLogger("reranker_batch").isEnabledFor(logging.DEBUG):
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        kept = os.dup(2)
    except OSError:  # no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def check_socket_paths(folder: str) -> None:
    """Refuse a temporary folder whose path leaves no space for the names of Ray's sockets."""
    excess = len(os.fsencode(os.path.join(folder, _SOCKET_NAME))) - _MAX_SOCKET_BYTES
    if excess > 0:
        raise ConfigError(
            f"The temporary folder {folder} is {excess} bytes too long for the sockets of Ray, whose paths may have "
            f"{_MAX_SOCKET_BYTES}. Set RAY_TMPDIR to a shorter one, such as /tmp."
        )


def protect_token(path: Path) -> None:
    """The token that opens every local Ray of this user is there, and nobody else can read it.

    Ray makes one itself, for all to read.
    """
    try:
        if not path.exists():
            _create_token(path)
        if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            path.chmod(0o600)
            logger.warning("Others could read %s (mode %o); it is yours alone now (600).", path, mode)
    except OSError as error:
        raise ConfigError(
            f"Ray's token {path} cannot be kept: {error.strerror}. Set HOME to a folder that can be written, "
            "or RAY_AUTH_TOKEN to a long random text."
        ) from None


def _create_token(path: Path) -> None:
    """Whole under its name or not at all; the first of several processes decides."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent)  # mode 600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(aside)
