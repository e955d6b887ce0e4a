"""An earlier output as a source of scores: what a run has on record about it, and whether it can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.core.report import MemoFile
from reranker_batch.core.reuse import ReuseRecord
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.documents import typed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.run_state import MANIFEST, REUSE, RunState

_RECORD = TypeAdapter(ReuseRecord)


@dataclass(frozen=True)
class EarlierOutput:
    """The memo of an output, or why there is none that this run can use."""

    files: Mapping[str, MemoFile] = field(default_factory=dict)
    """By unit."""
    problems: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Equal where all memo parts are equal."""
        return fingerprint({unit_id: file.sha256 for unit_id, file in self.files.items()}) if self.files else ""


def read_earlier(output: Folder, scoring: Mapping[str, Any]) -> EarlierOutput:
    """Read the records of an output whose scores are wanted for these settings of scoring. Raises nothing of its own:
    whatever keeps the output from being used is a problem of it.
    """
    try:
        return _read(RunState(output), scoring)
    except CommitError as error:
        return EarlierOutput(problems=[str(error)])


def _read(state: RunState, scoring: Mapping[str, Any]) -> EarlierOutput:
    manifest, report, uri = state.read(MANIFEST), state.report(), state.output.uri
    if manifest is None or report is None:
        return EarlierOutput(problems=[f"{uri} holds no finished run."])
    if not state.is_complete:
        return EarlierOutput(problems=[f"{uri} is not complete: scores/_SUCCESS is not there."])
    if lines := differences({"scoring": manifest["settings"]["scoring"]}, {"scoring": scoring}):
        return EarlierOutput(problems=lines)
    files = {part.unit_id: part.memo for part in report.parts if part.memo is not None}
    if len(files) < len(report.parts) or report.missing:
        return EarlierOutput(problems=[f"{uri} has no memo: its run had output.memo: false."])
    return EarlierOutput(files)


def read_record(state: RunState) -> ReuseRecord | None:
    """What an earlier attempt decided, None where none did.

    Raises:
        CommitError: It is there and is not what this program writes.
    """
    values = state.read(REUSE)
    return None if values is None else typed(_RECORD, values, state.path_of(REUSE))


def write_record(state: RunState, record: ReuseRecord) -> None:
    """Raises CommitError when it cannot be written."""
    state.write(REUSE, asdict(record))
