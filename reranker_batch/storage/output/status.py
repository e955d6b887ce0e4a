"""What became of a run, from what it left in its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from reranker_batch.core.report import EXIT_CODES, RunReport
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.gate import Gate, read_gate
from reranker_batch.storage.output.lock import living_lock
from reranker_batch.storage.output.run_state import DELETING, MANIFEST, REPORT, RunState

State = Literal[
    "complete", "accepted", "too_many_failed", "gated", "failed", "running", "interrupted", "deleting", "no_run"
]
SERVED: tuple[State, ...] = ("complete", "accepted")
_EXIT_NO_RUN, _EXIT_RUNNING = 2, 1


@dataclass(frozen=True)
class OutputStatus:
    """The state of an output. Nothing but the records is read; `verify` proves the parts."""

    output: str
    state: State
    run_exit_code: int | None
    """What the last attempt ended with, as far as it left word; None while it runs and where there is none."""
    message: str = ""
    report: RunReport | None = None
    gate: Gate | None = None

    @property
    def is_served(self) -> bool:
        return self.state in SERVED

    @property
    def exit_code(self) -> int:
        """0 only for an output that may be served; else the run's, 1 while it runs, 2 where there is no run."""
        if self.is_served:
            return 0
        return {"running": _EXIT_RUNNING, "no_run": _EXIT_NO_RUN}.get(self.state, self.run_exit_code or 1)

    def to_dict(self) -> dict[str, Any]:
        report, gate = self.report, self.gate
        return {
            "output": self.output,
            "status": self.state,
            "exit_code": self.run_exit_code,
            "is_served": self.is_served,
            "message": self.message,
            "reasons": [] if gate is None else gate.reasons,
            "numbers": {} if gate is None else gate.numbers,
            "accepted": None if gate is None or gate.accepted is None else vars(gate.accepted),
            "units": None if report is None else report.units,
            "units_published": None if report is None else report.units_published,
            "candidates": None if report is None else report.totals.candidates,
            "dead_letters": None if report is None else report.totals.num_dead_letters,
        }


def output_status(path: str) -> OutputStatus:
    """Say whether an output may be served, and if not, why.

    Raises:
        ConfigError: The place cannot be used.
        CommitError: A record of the run cannot be read, or the records contradict each other.
    """
    state = RunState(Folder.at(path))
    if state.has_lock_files and (owner := living_lock(state.output)) is not None:
        return OutputStatus(path, "running", None, f"{owner}")
    if state.read(DELETING) is not None:
        return OutputStatus(path, "deleting", None, "The next `reranker-batch clean` of its folder finishes that.")
    if state.read(MANIFEST) is None:
        return OutputStatus(path, "no_run", None, "There is no run/manifest.json.")
    report, gate = state.report(), read_gate(state)
    if state.is_complete:
        return _marked(state, path, report, gate)
    if report is None or state.has_lock_files:
        return OutputStatus(path, "interrupted", EXIT_CODES["interrupted"], "It was killed.", report, gate)
    return _unmarked(path, report, gate)


def _marked(state: RunState, path: str, report: RunReport | None, gate: Gate | None) -> OutputStatus:
    if report is not None and report.status == "complete" and gate is None:
        return OutputStatus(path, "complete", 0, report.message, report)
    if report is not None and gate is not None and gate.accepted is not None and gate.exit_code == report.exit_code:
        message = f"Accepted by {gate.accepted.by} at {gate.accepted.at}."
        return OutputStatus(path, "accepted", gate.exit_code, message, report, gate)
    raise CommitError(
        f"{path}: scores/_SUCCESS is there, but run/{REPORT} and run/gated.json do not say that the run is complete or "
        "that somebody accepted its output. `reranker-batch verify` shows what is wrong."
    )


def _unmarked(path: str, report: RunReport, gate: Gate | None) -> OutputStatus:
    if report.status == "complete":
        message = "It ended before scores/_SUCCESS was written."
        return OutputStatus(path, "interrupted", EXIT_CODES["interrupted"], message, report, gate)
    if gate is not None and gate.exit_code == report.exit_code:
        state: State = "too_many_failed" if gate.exit_code == EXIT_CODES["too_many_failed"] else "gated"
        return OutputStatus(path, state, gate.exit_code, "; ".join(gate.reasons), report, gate)
    return OutputStatus(path, report.status, report.exit_code, report.message, report, gate)
