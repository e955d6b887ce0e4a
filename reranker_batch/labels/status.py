"""What became of labels, from what `label` left in their folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reranker_batch.core.report import EXIT_CODES
from reranker_batch.errors import CommitError
from reranker_batch.labels.record import REPORT, read_record
from reranker_batch.labels.report import read_report
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.label_parts import LABELS, is_marked, unit_ids_in
from reranker_batch.storage.output.lock import living_lock
from reranker_batch.storage.output.run_state import RunState

LabelsState = Literal["complete", "running", "interrupted"]
_EXIT_CODES: Mapping[LabelsState, int] = {"complete": 0, "running": 1, "interrupted": EXIT_CODES["interrupted"]}


@dataclass(frozen=True)
class LabelsStatus:
    """The state of labels. Nothing but the records is read; `verify` proves the parts."""

    output: str
    state: LabelsState
    message: str
    teachers: list[str]
    parts: int
    parts_published: int
    decisions: dict[str, int] = field(default_factory=dict)
    """Candidates by decision or reason; none until the labels are complete."""

    @property
    def is_served(self) -> bool:
        """Whether the labels are complete."""
        return self.state == "complete"

    @property
    def exit_code(self) -> int:
        """0 for complete labels, 1 while they are made, 130 after an interruption."""
        return _EXIT_CODES[self.state]

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": self.output,
            "status": self.state,
            "exit_code": None if self.state == "running" else self.exit_code,
            "is_served": self.is_served,
            "message": self.message,
            "teachers": self.teachers,
            "parts": self.parts,
            "parts_published": self.parts_published,
            "decisions": self.decisions,
        }


def labels_status(path: str) -> LabelsStatus:
    """Say whether labels are complete, and if so, what became of the candidates.

    Raises:
        ConfigError: The place cannot be used.
        CommitError: There is no record of labels, it cannot be read, or the report of complete labels is missing.
    """
    output = Folder.at(path)
    record = read_record(output)
    if record is None:
        raise CommitError(f"{path} holds no labels any more.")
    published = len(set(unit_ids_in(output, LABELS)) & set(record.units))
    about = (record.teachers, len(record.units), published)
    if RunState(output).has_lock_files and (owner := living_lock(output)) is not None:
        return LabelsStatus(path, "running", f"{owner}", *about)
    if not is_marked(output):
        message = f"{published:,} of {len(record.units):,} parts are there. The same `label` command goes on"
        return LabelsStatus(path, "interrupted", message, *about)
    report = read_report(output)
    if report is None:
        raise CommitError(
            f"{path}: {LABELS}/_SUCCESS is there, but run/{REPORT} is not. `reranker-batch verify` shows what is wrong."
        )
    decided = ", ".join(f"{number:,} {code}" for code, number in report.decisions.items()) or "none"
    teachers = ", ".join(record.teachers)
    message = (
        f"{report.labelled_queries:,} of {report.queries:,} queries have labels. {report.candidates:,} candidates: "
        f"{decided}. Teachers: {teachers}"
    )
    return LabelsStatus(path, "complete", message, *about, report.decisions)
