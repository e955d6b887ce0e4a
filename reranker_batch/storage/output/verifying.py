"""Proof of a finished output from its own record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from reranker_batch.core.counts import Counts
from reranker_batch.core.mapping import Mapper, in_threads
from reranker_batch.core.report import RunReport
from reranker_batch.core.unit_summary import UnitSummary
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.gate import Gate, read_gate
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.part_checks import RowRules
from reranker_batch.storage.output.parts import SCORES, PublishedPart, part_name
from reranker_batch.storage.output.plan_record import plan_problems
from reranker_batch.storage.output.published import PublishedFiles, RecordedPart, read_unit_parts
from reranker_batch.storage.output.run_state import MANIFEST, PLAN, REPORT, RunState

EXIT_UNSOUND = 1
_FINISHED = ("complete", "too_many_failed", "gated")


@dataclass(frozen=True)
class Verification:
    """What was looked at, every contradiction in it, and what keeps a sound output from being served."""

    parts: int
    rows: int
    dead_letters: int
    problems: list[str]
    gate: Gate | None = None
    is_marked: bool = False
    """Whether `scores/_SUCCESS` is there."""

    @property
    def is_sound(self) -> bool:
        """Whether the output is what its record says. It may still be gated."""
        return not self.problems

    @property
    def shown(self) -> str:
        """What a sound one says."""
        return f"sound. {self.parts:,} parts, {self.rows:,} rows, {self.dead_letters:,} dead letters."

    @property
    def notes(self) -> list[str]:
        """What else there is to say about a sound output: why it is not served."""
        return [] if self.closed_gate is None else [f"not served: gated. {'; '.join(self.closed_gate.reasons)}"]

    @property
    def closed_gate(self) -> Gate | None:
        """What keeps the output from being served until somebody accepts it."""
        return None if self.is_marked else self.gate

    @property
    def exit_code(self) -> int:
        """1 with problems, the run's own code for a sound output that is gated, else 0."""
        if self.problems:
            return EXIT_UNSOUND
        return 0 if self.closed_gate is None else self.closed_gate.exit_code


def verify_output(path: str, *, each: Mapper = in_threads) -> Verification:
    """Read a finished output again and compare every part with the plan, the manifest, the report and the rules of
    ranking. `each` says where parts are read.

    Raises:
        ConfigError: There is no output of a run at this place.
        CommitError: A record of the run cannot be read.
    """
    state = RunState(Folder.at(path))
    record = Record.read(state)
    if record is None:
        raise ConfigError(f"{path} holds no run: run/{MANIFEST} or run/{PLAN} is not there.")
    if record.report is None:
        return Verification(0, 0, 0, [f"run/{REPORT} is not there: the run is not complete."])
    is_marked = state.is_complete
    parts, problems = _check_parts(state, record, each)
    return Verification(
        parts=len(parts),
        rows=sum(part.num_rows for part in parts),
        dead_letters=sum((part.record.counts for part in parts), Counts()).num_dead_letters,
        problems=[*record.problems(is_marked=is_marked), *problems, *_total_problems(parts, record.report)],
        gate=record.gate,
        is_marked=is_marked,
    )


@dataclass(frozen=True)
class Record:
    """All documents of a run, each readable by itself."""

    manifest: Manifest
    units: list[WorkUnit]
    report: RunReport | None
    gate: Gate | None
    plan_problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, state: RunState) -> Record | None:
        """None where there is no manifest or no plan. Raises CommitError for what is not ours."""
        values, units = state.read(MANIFEST), state.read_units()
        if values is None or units is None:
            return None
        manifest = Manifest.of(values, state.path_of(MANIFEST))
        return cls(manifest, units, state.report(), read_gate(state), plan_problems(values, units))

    def is_finished(self, *, is_marked: bool) -> bool:
        """Whether the run came to its end, gated or not."""
        return self.report is not None and self.report.status in _FINISHED and (is_marked or self.gate is not None)

    def problems(self, *, is_marked: bool) -> list[str]:
        """Contradictions between the documents, and with the success marker."""
        if self.report is None:
            return []
        return [
            *(f"run/{PLAN}: {problem}" for problem in self.plan_problems),
            *_status_problems(self.report, self.gate, is_marked=is_marked),
            *(f"run/{REPORT}: {problem}" for problem in self._report_problems(self.report)),
        ]

    def _report_problems(self, report: RunReport) -> Iterator[str]:
        unit_ids = {unit.unit_id for unit in self.units}
        listed = Counter(entry.unit_id for entry in report.parts)
        yield from (f"it lists {name!r}, no unit of the plan" for name in sorted(listed.keys() - unit_ids))
        yield from (f"it does not list unit {name}" for name in sorted(unit_ids - listed.keys()))
        yield from (f"it lists {name!r} twice" for name, number in listed.items() if number > 1)
        if report.missing:
            yield f"{len(report.missing)} units are missing, such as {report.missing[0]!r}"
        if (report.units, report.units_published) != (len(self.units), len(self.units)):
            yield f"{report.units_published} of {report.units} units are published, the plan has {len(self.units)}"
        if report.skipped_files.keys() != self.manifest.input.skipped.keys():
            yield "its skipped files are not those of the manifest"


def _status_problems(report: RunReport, gate: Gate | None, *, is_marked: bool) -> Iterator[str]:
    if report.status not in _FINISHED:
        yield f"run/{REPORT}: the status is {report.status}: the run is not complete."
        return
    exit_code = gate.exit_code if gate is not None else 0
    if exit_code != report.exit_code:
        yield f"run/gated.json has exit code {exit_code} (0: it is not there), the report {report.exit_code}."
    elif (gate.reasons if gate is not None else []) != report.reasons:
        yield f"run/gated.json has other reasons than the limits that are not met by run/{REPORT}."
    if report.findings is None:
        yield f"run/{REPORT}: movement and metrics are not those that were computed from the parts that it lists."
    if is_marked and gate is not None and gate.accepted is None:
        yield "scores/_SUCCESS is there, although run/gated.json says that nobody has accepted the output."
    if not is_marked and gate is None:
        yield "scores/_SUCCESS is not there: the run is not complete."


def _total_problems(parts: Sequence[PublishedPart], report: RunReport) -> Iterator[str]:
    counted, told = sum((part.record.counts for part in parts), Counts()).to_dict(), report.totals.to_dict()
    for name, value in counted.items():
        if value != told[name]:
            yield f"{name}: the parts add up to {value}, the report says {told[name]}"
    summary = sum((part.record.summary for part in parts), UnitSummary())
    if (summary.histograms, summary.truncation) != (report.histograms, report.truncation):
        yield "histograms and truncation: they are not what the parts add up to"
    if list(summary.examples) != report.dead_letter_examples:
        yield "dead_letter_examples: they are not those of the parts"


def _check_parts(state: RunState, record: Record, each: Mapper) -> tuple[list[PublishedPart], list[str]]:
    """The parts that are what was published, and what is wrong with any."""
    manifest = record.manifest
    asked = manifest.settings.output
    rules = RowRules(asked.layout, asked.top_n, asked.activation, asked.has_chunks)
    reported = {entry.unit_id: entry for entry in record.report.parts} if record.report is not None else {}
    files = PublishedFiles.of(state)
    units = {unit.unit_id: unit for unit in record.units}
    problems = [f"{name} belongs to no unit of the plan." for name in files.foreign(units)]
    check = _PartCheck(state.output, manifest.fingerprint, asked.input.layout, rules)
    parts = []
    for part, problems_of_part in each(check, [*zip(units.values(), files.recorded(units, reported), strict=True)]):
        problems += problems_of_part
        parts += [] if part is None else [part]
    return parts, problems


@dataclass(frozen=True)
class _PartCheck:
    output: Folder
    fingerprint: str
    input_layout: str
    rules: RowRules

    def __call__(self, expected: tuple[WorkUnit, RecordedPart]) -> tuple[PublishedPart | None, list[str]]:
        unit, recorded = expected
        try:
            part = read_unit_parts(self.output, recorded, fingerprint=self.fingerprint, keep_rows=True)
        except CommitError as error:
            return None, [str(error)]
        problems = [*self.rules.problems(part.rows, part.record.counts, unit), *self._count_problems(unit, part)]
        return replace(part, rows=None), [f"{SCORES}/{part_name(unit.unit_id)}: {problem}" for problem in problems]

    def _count_problems(self, unit: WorkUnit, part: PublishedPart) -> Iterator[str]:
        counts = part.record.counts
        if counts.scored + counts.num_dead_letters != counts.candidates:
            yield "scored and dead-lettered candidates are not all candidates"
        if counts.reused > counts.scored:
            yield f"{counts.reused} scores are reused of {counts.scored}"
        rows = counts.queries if self.input_layout == "nested" else counts.candidates
        if rows != unit.num_rows:
            yield f"its record counts {rows} rows of the input, the plan {unit.num_rows}"
        if self.rules.top_n is None and counts.kept != counts.scored:
            yield f"{counts.kept} candidates are kept of {counts.scored} that were scored, although all are to be kept"
