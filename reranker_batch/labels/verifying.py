"""Proof of labels from their own record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.config.labels import LabelConfig
from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.core.mapping import Mapper, in_threads
from reranker_batch.errors import CommitError, ConfigError, InputError, RerankerBatchError
from reranker_batch.labels.making import open_label_job
from reranker_batch.labels.reasons import Fate
from reranker_batch.labels.record import REPORT, LabelRecord, read_record
from reranker_batch.labels.report import Attempt, LabelReport, read_report
from reranker_batch.labels.summary import Summary, total
from reranker_batch.printing import listed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.label_parts import (
    DROPPED,
    LABELS,
    LabelPart,
    is_marked,
    read_label_part,
    unit_ids_in,
)
from reranker_batch.storage.output.parts import part_name
from reranker_batch.storage.output.run_state import MANIFEST, RunState
from reranker_batch.storage.output.verifying import EXIT_UNSOUND

_PLACE = ("file", "row", "index")


@dataclass(frozen=True)
class LabelsVerification:
    """What was looked at, every contradiction in it, and what could not be looked at."""

    parts: int
    candidates: int
    problems: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether the labels are complete and what their record says."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """1 with problems, else 0."""
        return EXIT_UNSOUND if self.problems else 0

    @property
    def shown(self) -> str:
        """What a sound one says."""
        return f"sound. {self.parts:,} parts of labels, {self.candidates:,} candidates."


def verify_labels(path: str, *, each: Mapper = in_threads) -> LabelsVerification:
    """Read labels again and compare every part with their record and report, and their sources with what they were.

    `each` says where parts are read.

    Raises:
        ConfigError: There are no labels at this place.
        CommitError: A record cannot be read.
    """
    output = Folder.at(path)
    record = read_record(output)
    if record is None:
        raise ConfigError(f"{path} holds no labels.")
    report = read_report(output)
    if report is None or not is_marked(output):
        return LabelsVerification(0, 0, [f"{LABELS}/_SUCCESS or run/{REPORT} is not there: it is not complete."])
    problems = [*_record_problems(record), *_foreign(output, record)]
    parts: list[Summary] = []
    check = _PartCheck(output, record.fingerprint)
    for summary, problems_of_part in each(check, [(unit, report.hashes.get(unit, {})) for unit in record.units]):
        problems += problems_of_part
        parts += [] if summary is None else [summary]
    whole = total(parts, len(record.teachers))
    if len(parts) == len(record.units):
        expected = LabelReport.of("", record, whole, report.hashes, Attempt(0, 0))
        problems += [f"run/{REPORT}: {name} is not what the parts add up to" for name in expected.differing(report)]
    changed, notes = _source_problems(record)
    return LabelsVerification(len(parts), whole.candidates, [*problems, *changed], notes)


def _record_problems(record: LabelRecord) -> Iterator[str]:
    if record.fingerprint != fingerprint({**record.settings, "scales": [asdict(scale) for scale in record.scales]}):
        yield "run/labels.json: its fingerprint is not that of its settings and scales"


def _foreign(output: Folder, record: LabelRecord) -> Iterator[str]:
    for folder in (LABELS, DROPPED):
        for unit_id in sorted(set(unit_ids_in(output, folder)) - set(record.units)):
            yield f"{folder}/{part_name(unit_id)} belongs to no unit of these labels."


@dataclass(frozen=True)
class _PartCheck:
    """Of the two files of a unit, with the hashes that the report has."""

    output: Folder
    fingerprint: str

    def __call__(self, expected: tuple[str, dict[str, str]]) -> tuple[Summary | None, list[str]]:
        unit_id, hashes = expected
        parts, problems = {}, []
        for folder in (LABELS, DROPPED):
            try:
                parts[folder] = part = read_label_part(self.output, folder, unit_id)
            except CommitError as error:
                problems.append(str(error))
                continue
            about = self._file_problems(part, unit_id, hashes.get(folder))
            problems += [f"{folder}/{part_name(unit_id)}: {problem}" for problem in about]
        if problems:
            return None, problems
        labels, dropped = parts[LABELS], parts[DROPPED]
        if labels.record != dropped.record:
            return None, [f"{part_name(unit_id)}: the records of the files in {LABELS}/ and {DROPPED}/ differ"]
        summary = Summary.from_dict(labels.record["summary"])
        return summary, [f"{part_name(unit_id)}: {problem}" for problem in _row_problems(labels, dropped, summary)]

    def _file_problems(self, part: LabelPart, unit_id: str, sha256: str | None) -> Iterator[str]:
        if part.record["unit_id"] != unit_id or part.record["fingerprint"] != self.fingerprint:
            yield "it belongs to other labels, or to another unit"
        elif part.sha256 != sha256:
            yield "it is not the file that was published"


def _row_problems(labels: LabelPart, dropped: LabelPart, summary: Summary) -> Iterator[str]:
    """Whether the rows are what the record counts, and every candidate is there once."""
    kept = [_items(labels.rows, name) for name in ("positives", "negatives")]
    codes = Counter(code for table in kept for code in table["decision"].to_pylist())
    codes.update(dropped.rows["reason"].to_pylist())
    if codes != {fate.code: summary.fates[fate] for fate in Fate if summary.fates[fate]}:
        yield "the decisions of its rows are not those that its record counts"
    if len(labels.rows) != summary.labelled:
        yield f"it has {len(labels.rows)} queries, its record counts {summary.labelled}"
    places = pa.concat_tables([*(table.select(_PLACE) for table in kept), dropped.rows.select(_PLACE)])
    frame = pl.DataFrame(pl.from_arrow(places))
    if (repeated := int(frame.is_duplicated().sum())) > 0:
        yield f"{repeated} rows have the place of another one"


def _items(rows: pa.Table, name: str) -> pa.Table:
    """Place and decision of every positive or negative."""
    lists = rows[name].combine_chunks()
    query = np.asarray(pc.list_parent_indices(lists))
    items = lists.flatten()
    columns = {one: rows[one].take(pa.array(query)) for one in ("file", "row")}
    return pa.table({**columns, **{one: pc.struct_field(items, one) for one in ("index", "decision")}})


def _source_problems(record: LabelRecord) -> tuple[Sequence[str], list[str]]:
    """What has changed of teachers, input and judgments, and a note where they are not there any more."""
    try:
        config = LabelConfig.of(record.config)
        gone = [each.output for each in config.labels.teachers if _is_gone(each.output)]
        if gone:
            return [], [f"teachers and input are not compared: {listed(gone)} is not there any more"]
        changes = differences(record.settings, open_label_job(config).settings)
    except InputError as error:
        return [], [f"teachers and input are not compared: {error}"]
    except RerankerBatchError as error:
        return [f"the labels were made from something else than what is there now: {error}"], []
    return [f"the labels were made from something else than what is there now: {change}" for change in changes], []


def _is_gone(output: str) -> bool:
    return RunState(Folder.at(output)).read(MANIFEST) is None
