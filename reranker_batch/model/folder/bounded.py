"""Work on untrusted files of a model within bounds of time and memory, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError

_SCRIPT = Path(__file__).with_name("untrusted.py")
_CPU_S = 3
_MEMORY_BYTES = 256 << 20
_WALL_S = 300.0
"""For a machine that has other things to do; the work itself is bounded by its processor time."""
_OVER = {-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV}


def run_bounded(task: str, **request: Any) -> Any:
    """The answer of `untrusted.py` to a request, or None where the work is over its bounds.

    Raises:
        ModelError: The process could not be run.
    """
    text = json.dumps({"task": task, "cpu_s": _CPU_S, "memory_bytes": _MEMORY_BYTES, **request})
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_SCRIPT)],
            input=text.encode("utf-8", errors="surrogatepass"),
            env=environment,
            capture_output=True,
            timeout=_WALL_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelError(f"The process that tries a model's files did not finish: {type(error).__name__}.") from error
    last = done.stderr.decode("utf-8", errors="replace").strip().rpartition("\n")[2]
    if done.returncode in _OVER or last.startswith("MemoryError"):
        return None
    if done.returncode:
        raise ModelError(f"The process that tries a model's files failed: {last[:300]}")
    return json.loads(done.stdout)
