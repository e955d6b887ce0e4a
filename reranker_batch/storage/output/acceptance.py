"""Letting a gated output through."""

from __future__ import annotations

import getpass
import os
from dataclasses import replace
from datetime import UTC, datetime

from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.printing import listed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.gate import Acceptance, Gate, write_gate
from reranker_batch.storage.output.lock import hold_lock
from reranker_batch.storage.output.run_state import RunState
from reranker_batch.storage.output.status import OutputStatus, output_status
from reranker_batch.storage.output.verifying import verify_output


def accept_output(path: str, *, by: str | None = None) -> Gate:
    """Let a finished output be served although its run ended with exit code 3 or 4: write who accepts it into
    `run/gated.json`, then `scores/_SUCCESS`.

    `by` is the name of the operating system's user where it is not given. The output is verified first. Interrupted
    between the two writes, the same call finishes.

    Raises:
        ConfigError: There is no finished output to accept, or `by` is empty.
        LockedError: A run is at work on it.
        CommitError: The output is not what its record says, or cannot be written.
    """
    name = _user() if by is None else by.strip()
    if not name or not name.isprintable():
        raise ConfigError(f"{name!r} is no name of a person. Say who accepts the output: --by NAME.")
    _refuse_unless_gated(output_status(path))
    state = RunState(Folder.at(path))
    with hold_lock(state.output) as lock:
        gate = _sound_gate(path)
        if gate.accepted is None:
            gate = replace(gate, accepted=Acceptance(name, datetime.now(UTC).isoformat(timespec="seconds")))
            lock.confirm()
            write_gate(state, gate)
        state.complete()
    return gate


def _refuse_unless_gated(status: OutputStatus) -> None:
    if status.state in ("too_many_failed", "gated", "running"):  # the lock refuses what runs, and names it
        return
    state = status.state.replace("_", " ")
    what = "nothing to accept" if status.is_served else "no finished output to accept"
    raise ConfigError(f"{status.output}: there is {what}: {state}. {status.message}")


def _sound_gate(path: str) -> Gate:
    """The gate of an output that is sound but for a success marker that is not there yet."""
    verification = verify_output(path)
    problems, gate = verification.problems, verification.gate
    if problems:
        shown = listed(problems, separator="\n  ")
        raise CommitError(f"{path} is not accepted, since it is not what its record says:\n  {shown}")
    if gate is None:
        raise ConfigError(f"{path}: there is nothing to accept.")
    return gate


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user on this machine, as in some containers
        return f"user {os.getuid()}"
