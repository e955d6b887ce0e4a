"""What labels have on record: their settings, scales and units, and what became of the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from reranker_batch.config.labels import LabelConfig
from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import ConfigError, FingerprintError
from reranker_batch.labels.scaling import Scale
from reranker_batch.storage.files.documents import typed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import overlap, refuse_overlap
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.output.label_parts import DROPPED, LABELS, is_marked, names_in
from reranker_batch.storage.output.run_state import RunState

RECORD, REPORT = "labels.json", "labels_report.json"


@dataclass(frozen=True)
class LabelRecord:
    """`run/labels.json`: written before the first part."""

    fingerprint: str
    settings: dict[str, Any]
    """What decides the labels: see `labels.making`."""
    scales: list[Scale]
    """Of each teacher, in their order."""
    units: list[str]
    config: dict[str, Any]
    """As it was when the labels were begun."""
    versions: dict[str, str]

    @property
    def teachers(self) -> list[str]:
        return list(self.settings["order"])


_RECORD = TypeAdapter(LabelRecord)


def read_record(output: Folder) -> LabelRecord | None:
    """The record, None where there is none.

    Raises:
        CommitError: It is there and is not what this program writes.
    """
    state = RunState(output)
    values = state.read(RECORD)
    return None if values is None else typed(_RECORD, values, state.path_of(RECORD))


def is_labels(output: Folder) -> bool:
    """Whether a folder holds labels, complete or not. Raises CommitError where their record cannot be read."""
    return read_record(output) is not None


def write_record(output: Folder, record: LabelRecord) -> None:
    """Raises CommitError when it cannot be written."""
    RunState(output).write(RECORD, asdict(record))
    reached("labels_recorded")


def check_settings(output: Folder, recorded: LabelRecord, settings: Mapping[str, Any]) -> None:
    """Go on only with labels of the same settings, teachers and input.

    Raises:
        FingerprintError: Lists what differs.
    """
    if lines := [_explained(line) for line in differences(recorded.settings, settings)]:
        raise FingerprintError(
            f"{output.uri} holds other labels:\n  "
            + "\n  ".join(lines)
            + "\nUse another output.path, or set these back."
        )


_EXPLAINED = {
    "units:": "the input is cut in another way: output.unit_pairs",
    "judgments:": "the judgments themselves",
    ".parts_digest:": "its scores: it was run again",
    ".units_digest:": "its units",
}


def _explained(line: str) -> str:
    """A difference of hashes, with what it means."""
    name = line.partition(" ")[0]
    meanings = [text for end, text in _EXPLAINED.items() if name == end or (end[0] == "." and name.endswith(end))]
    return f"{line} ({meanings[0]})" if meanings else line


def check_is_free(output: Folder) -> None:
    """Refuse a folder with files of others; the lock is there before anything else is.

    Raises:
        ConfigError: Names one of them.
    """
    in_run = [name for name in names_in(output, "run") if not name.startswith("lock.") and name != "staging"]
    foreign = [name for name in names_in(output) if name != "run"] + [f"run/{name}" for name in in_run]
    if foreign:
        raise ConfigError(
            f"output.path={output.uri} holds files that `label` has not written, such as {foreign[0]!r}. Use an empty "
            "or a new folder."
        )


def is_empty(output: Folder) -> bool:
    """Whether labels were begun and no part of them was published."""
    return not (names_in(output, LABELS) or names_in(output, DROPPED))


def overlapping_teacher(config: LabelConfig, place: str) -> str | None:
    """The name of a teacher whose output is this place, or lies around or in it."""
    return next((each.name for each in config.labels.teachers if overlap(place, each.output)), None)


def refuse_target(config: LabelConfig, target: str) -> None:
    """Refuse to write an export into what the labels are made from, or around it.

    Raises:
        ConfigError: Names the teacher or the input.
    """
    if (name := overlapping_teacher(config, target)) is not None:
        raise ConfigError(f"{target} is the output of teacher {name} or lies around or in it. Give a place outside.")
    if config.input is not None:
        refuse_overlap(config.input.path, target, written_as="target")


def open_labels(place: str) -> tuple[Folder, LabelRecord]:
    """Finished labels, to be read.

    Raises:
        ConfigError: There are none at this place, or they are not finished.
        CommitError: The record cannot be read.
    """
    output = Folder.at(place)
    record = read_record(output)
    if record is None:
        raise ConfigError(f"{place} holds no labels: run/{RECORD} is not there. Name the output.path of `label`.")
    if not is_marked(output):
        raise ConfigError(
            f"{place} is not finished: {LABELS}/_SUCCESS is not there. The same `label` command resumes it."
        )
    return output, record


def shape_of(units: Sequence[WorkUnit]) -> str:
    """A hash of which rows each unit has, whenever its files were written."""
    return fingerprint(
        {unit.unit_id: [[span.file, span.row_start, span.row_stop] for span in unit.spans] for unit in units}
    )
