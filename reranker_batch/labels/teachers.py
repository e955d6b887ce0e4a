"""Teachers' finished outputs, checked before anything is joined."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reranker_batch.config import InputConfig, Reading
from reranker_batch.config.labels import TeacherConfig
from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.units import Span, WorkUnit
from reranker_batch.errors import ConfigError
from reranker_batch.printing import listed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.run_state import MANIFEST, RunState
from reranker_batch.storage.output.status import OutputStatus, output_status

_IDENTITY = ("size_bytes", "footer_digest", "num_rows")
"""What equal files have in common; a copy has another time."""


@dataclass(frozen=True)
class Teacher:
    """A finished output with every candidate of its input, in the nested layout."""

    name: str
    weight: float
    output: Folder
    manifest: Manifest
    model: Mapping[str, Any]
    """Name, revision and recipe."""
    parts_digest: str
    """Equal where all parts are equal."""
    units: tuple[WorkUnit, ...]
    dead_letters: frozenset[str]
    """Units that have some."""
    by_file: Mapping[str, _SpansOfFile] = field(repr=False)

    def units_with(self, spans: Sequence[Span]) -> Iterator[str]:
        """The units that hold rows of these spans, each once, in the order of the input."""
        seen: dict[str, None] = {}
        for span in spans:
            if span.file in self.by_file:
                seen |= dict.fromkeys(self.by_file[span.file].units_with(span))
        return iter(seen)

    def describe(self) -> dict[str, Any]:
        """For the record: what decides the values of the output."""
        return {
            "weight": self.weight,
            "fingerprint": self.manifest.fingerprint,
            "scoring_fingerprint": self.manifest.scoring_fingerprint,
            "units_digest": self.manifest.units_digest,
            "parts_digest": self.parts_digest,
            "model": dict(self.model),
        }


@dataclass(frozen=True)
class _SpansOfFile:
    """Spans of one file in their order, with their units."""

    starts: tuple[int, ...]
    unit_ids: tuple[str, ...]

    def units_with(self, span: Span) -> Sequence[str]:
        first = max(0, bisect_right(self.starts, span.row_start) - 1)
        return self.unit_ids[first : bisect_right(self.starts, max(span.row_start, span.row_stop - 1))]


def open_teacher(config: TeacherConfig) -> Teacher:
    """Read the records of a teacher's output.

    Raises:
        ConfigError: It is not finished, has another layout, or was trimmed; the message names the teacher.
        CommitError: A record cannot be read.
    """
    state = RunState(Folder.at(config.output))
    values, units = state.read(MANIFEST), state.recorded_units()
    if values is None or units is None:
        raise ConfigError(f"Teacher {config.name}: {config.output} holds no run. {_remedy(config)}")
    manifest = Manifest.of(values, state.path_of(MANIFEST))
    if not (status := output_status(config.output)).is_served:
        raise ConfigError(f"Teacher {config.name}: {_why_not(status)}")
    check_output(config.name, manifest.settings.output.layout, manifest.settings.output.top_n)
    dead = {name.removeprefix("part-").removesuffix(".parquet") for name in state.dead_letter_names()}
    return Teacher(
        config.name,
        config.weight,
        state.output,
        manifest,
        _model_of(values),
        _digest_of(state),
        tuple(units),
        frozenset(dead),
        _spans_by_file(units),
    )


def _model_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    described = manifest.get("model")
    names = ("name", "revision", "recipe")
    return {name: described.get(name) for name in names} if isinstance(described, Mapping) else {}


def _digest_of(state: RunState) -> str:
    report = state.report()
    return fingerprint({} if report is None else {part.unit_id: part.sha256 for part in report.parts})


_REMEDIES: Mapping[str, str] = {
    "too_many_failed": "`reranker-batch accept` lets it through.",
    "gated": "`reranker-batch accept` lets it through.",
    "running": "Wait for it.",
    "deleting": "Name another output.",
}


def _why_not(status: OutputStatus) -> str:
    said = f"{status.state.replace('_', ' ')}. {status.message}".strip().rstrip(".")
    remedy = _REMEDIES.get(
        status.state, "Its own `run` command goes on; so does `label` with the teacher's key config."
    )
    return f"{status.output} is not finished: {said}. {remedy}"


def _remedy(config: TeacherConfig) -> str:
    return "Finish it first." if config.config else "Run it first, or set the teacher's key config."


def check_output(name: str, layout: str, top_n: int | None) -> None:
    """Refuse outputs that cannot be joined.

    Raises:
        ConfigError: Names the teacher and the key.
    """
    if top_n is not None:
        raise ConfigError(
            f"Teacher {name}: its output was trimmed to ranking.top_n={top_n}, so scores are missing. Run it again "
            "with ranking.top_n: null."
        )
    if layout != "nested":
        raise ConfigError(
            f"Teacher {name}: its output has output.layout: {layout}, which does not tell the place of a query. Run it "
            "again, into a new output.path with output.layout: nested; with reuse.from no pair is scored again."
        )


def _spans_by_file(units: Sequence[WorkUnit]) -> dict[str, _SpansOfFile]:
    spans: dict[str, list[tuple[int, str]]] = {}
    for unit in units:
        for span in unit.spans:
            spans.setdefault(span.file, []).append((span.row_start, unit.unit_id))
    return {
        file: _SpansOfFile(tuple(start for start, _ in sorted(items)), tuple(unit for _, unit in sorted(items)))
        for file, items in spans.items()
    }


def check_same_input(teachers: Sequence[Teacher]) -> None:
    """Refuse teachers of two inputs. Files of one name, size, footer and number of rows are the same.

    Raises:
        ConfigError: Names the two teachers and what differs.
    """
    first, *others = teachers
    for other in others:
        differences = _input_differences(first.manifest, other.manifest)
        if differences:
            raise ConfigError(
                f"Teachers {first.name} and {other.name} have scored two inputs: "
                f"{listed(differences, most=5, separator='; ')}. Run them on one input."
            )


def _input_differences(one: Manifest, two: Manifest) -> list[str]:
    return _reading_differences(one.reading, two.reading) + file_differences(one.input.files, two.input.files)


def _reading_differences(left: Reading, right: Reading) -> list[str]:
    differences = [
        f"input.columns.{name} is {getattr(left.columns, name)!r} and {getattr(right.columns, name)!r}"
        for name in type(left.columns).model_fields
        if name != "passthrough" and getattr(left.columns, name) != getattr(right.columns, name)
    ]
    if left.layout != right.layout:
        differences.append(f"input.layout is {left.layout} and {right.layout}")
    return differences


def file_differences(one: Mapping[str, Mapping[str, Any]], two: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Files that only one of two inputs has, or that differ in more than their time."""
    names = sorted(one.keys() | two.keys())
    return [
        f"{name} {'differs' if name in one and name in two else 'is in one of them only'}"
        for name in names
        if name not in one or name not in two or any(one[name].get(key) != two[name].get(key) for key in _IDENTITY)
    ]


def check_input(
    teacher: Teacher, config: InputConfig, reading: Reading, files: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse an input that is not the one that was scored, or of which other columns would be read.

    Raises:
        ConfigError: Names the teacher and what differs.
    """
    if differences := file_differences(teacher.manifest.input.files, files):
        raise ConfigError(
            f"Teacher {teacher.name} has not scored {config.path} as it is now: "
            f"{listed(differences, most=5, separator='; ')}. Put the files back, or run the teacher again."
        )
    if differences := _reading_differences(teacher.manifest.reading, reading):
        raise ConfigError(
            f"Teacher {teacher.name} has read the input in another way than these labels would: "
            f"{listed(differences, separator='; ')}. Set input as in the teacher's config, or leave it out."
        )
