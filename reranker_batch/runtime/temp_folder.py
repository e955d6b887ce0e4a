"""The folder in which a local Ray keeps its sockets."""

from __future__ import annotations

import os
import sys

from reranker_batch.errors import ConfigError

_LONGEST_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
_SOCKET = "ray/session_2000-01-01_00-00-00_000000_{pid}/sockets/plasma_store"
"""Ray's own choice, below the folder for temporary files."""


def check_temp_folder() -> None:
    """Ask before a local Ray is started whether the folder for temporary files can have its sockets.

    Raises:
        ConfigError: The path of a socket would be longer than the system allows.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    if variable is None or (variable == "TMPDIR" and not sys.platform.startswith("linux")):
        return
    folder = os.environ[variable]
    excess = len(os.fsencode(os.path.join(folder, _SOCKET.format(pid=os.getpid())))) - _LONGEST_SOCKET_BYTES
    if excess > 0:
        raise ConfigError(
            f"{variable}={folder} is {excess} bytes too long: Ray keeps sockets below it, whose paths may have "
            f"{_LONGEST_SOCKET_BYTES} bytes. Set RAY_TMPDIR to a short path, such as /tmp."
        )
