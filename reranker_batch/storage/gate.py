"""The record of a finished output that must not be served until somebody accepts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import TypeAdapter

from reranker_batch.storage.documents import typed
from reranker_batch.storage.run_state import GATED, RunState

GateCode = Literal[3, 4]


@dataclass(frozen=True)
class Acceptance:
    """Who let an output through, and when."""

    by: str
    at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Gate:
    """Why a finished output has no `scores/_SUCCESS`."""

    exit_code: GateCode
    """Of the run that set the gate."""
    reasons: list[str]
    accepted: Acceptance | None = None


_GATE = TypeAdapter(Gate)


def read_gate(state: RunState) -> Gate | None:
    """The gate of an output, None where it has none.

    Raises:
        CommitError: `run/gated.json` is there and is not what this program writes.
    """
    values = state.read(GATED)
    return None if values is None else typed(_GATE, values, state.path_of(GATED))


def set_gate(state: RunState, *, exit_code: GateCode, reasons: Sequence[str]) -> Gate:
    """Record why a finished output is not served; an acceptance for the very same reasons stays.

    Raises:
        CommitError: It cannot be written, or the gate that is there cannot be read.
    """
    gate, before = Gate(exit_code, list(reasons)), read_gate(state)
    if before is not None and (before.exit_code, before.reasons) == (gate.exit_code, gate.reasons):
        return before
    write_gate(state, gate)
    return gate


def write_gate(state: RunState, gate: Gate) -> None:
    """Replace `run/gated.json`. Raises CommitError when it cannot be written."""
    state.write(GATED, asdict(gate))


def remove_gate(state: RunState) -> None:
    """Drop the gate of an output that holds none of its reasons any more.

    Raises:
        CommitError: It cannot be dropped.
    """
    state.remove(GATED)
