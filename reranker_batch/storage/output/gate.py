"""The record of a finished output that must not be served until somebody accepts it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter

from reranker_batch.core.report import RunReport, Status
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.documents import WRITTEN_AGAIN, typed
from reranker_batch.storage.output.run_state import GATED, REPORT, RunState

logger = logging.getLogger(__name__)

GateCode = Literal[3, 4]
GATE_CODES: dict[Status, GateCode] = {"too_many_failed": 3, "gated": 4}

Document = TypeVar("Document")


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
    numbers: dict[str, int | float | None] = field(default_factory=dict)
    """By the key of each limit that is not met: the number that was compared with it, None where there is none."""


_GATE = TypeAdapter(Gate)


def read_gate(state: RunState) -> Gate | None:
    """The gate of an output, None where it has none.

    Raises:
        CommitError: `run/gated.json` is there and is not what this program writes.
    """
    values = state.read(GATED)
    return None if values is None else typed(_GATE, values, state.path_of(GATED), remedy=WRITTEN_AGAIN)


def set_gate(state: RunState, gate: Gate) -> Gate:
    """Record why a finished output is not served, and withdraw its success marker.

    An acceptance of the very same reasons stays, and with it the marker.

    Raises:
        CommitError: The gate cannot be written.
    """
    before = known(lambda: read_gate(state))
    if before is not None and replace(before, accepted=None) == gate and before.accepted is not None:
        return before
    state.withdraw()
    if before != gate:
        write_gate(state, gate)
    return gate


def conclude(
    state: RunState, report: RunReport, *, on_recorded: Callable[[RunState], None] = lambda _: None
) -> RunReport:
    """Write the report of a run whose units are all published, then the success marker, or the gate if it has failed
    because of its status. A second call repairs what is wrong and leaves the rest as it is.

    `on_recorded` is called when report and gate are on record, before the success marker.

    Returns the report to show: of an output that somebody has accepted, it says so.

    Raises:
        CommitError: Something cannot be written.
    """
    if not report.has_same_results(known(state.report)):
        state.write(REPORT, report.to_dict())
    if report.exit_code == 0:
        remove_gate(state)
        on_recorded(state)
        _mark(state)
        return report
    numbers = {gate.key: gate.value for gate in report.gates if not gate.is_met}
    gate = set_gate(state, Gate(GATE_CODES[report.status], report.reasons, numbers=numbers))
    on_recorded(state)
    if gate.accepted is None:
        state.close()
        return report
    _mark(state)
    message = f"accepted by {gate.accepted.by} at {gate.accepted.at} in spite of: {report.message}"
    return replace(report, status="complete", message=message)


def _mark(state: RunState) -> None:
    if state.is_complete:
        state.close()
    else:
        state.complete()


def known(read: Callable[[], Document | None]) -> Document | None:
    """What is on record, None where it cannot be read and has to be written again; the log says why."""
    try:
        return read()
    except CommitError as error:
        logger.warning("%s", error)
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
