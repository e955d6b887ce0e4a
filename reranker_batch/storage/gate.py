"""The record of a finished output that must not be served until somebody accepts it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from reranker_batch.errors import CommitError
from reranker_batch.storage.documents import WRITTEN_AGAIN, typed
from reranker_batch.storage.run_state import GATED, RunState

logger = logging.getLogger(__name__)

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
    reasons: Annotated[list[str], Field(min_length=1)]
    accepted: Acceptance | None = None


_GATE = TypeAdapter(Gate)


def read_gate(state: RunState) -> Gate | None:
    """The gate of an output, None where it has none.

    Raises:
        CommitError: `run/gated.json` is there and is not what this program writes.
    """
    values = state.read(GATED)
    return None if values is None else typed(_GATE, values, state.path_of(GATED), remedy=WRITTEN_AGAIN)


def set_gate(state: RunState, *, exit_code: GateCode, reasons: Sequence[str]) -> Gate:
    """Record why a finished output is not served, and withdraw its success marker.

    An acceptance for the very same reasons stays, and with it the marker.

    Raises:
        CommitError: The gate cannot be written.
    """
    gate, before = Gate(exit_code, list(reasons)), _known_gate(state)
    if before is not None and replace(before, accepted=None) == gate and before.accepted is not None:
        return before
    state.withdraw()
    write_gate(state, gate)
    return gate


def _known_gate(state: RunState) -> Gate | None:
    try:
        return read_gate(state)
    except CommitError as error:
        logger.warning("%s An acceptance in it does not count any more.", error)
        return None


def write_gate(state: RunState, gate: Gate) -> None:
    """Replace `run/gated.json`. Raises CommitError when it cannot be written."""
    state.write(GATED, asdict(gate))


def remove_gate(state: RunState) -> None:
    """Drop the gate of an output that holds none of its reasons any more.

    Raises:
        CommitError: It cannot be dropped.
    """
    state.remove(GATED)
