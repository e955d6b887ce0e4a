"""Labels from finished teachers: join, decide and publish, a unit of the input at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from reranker_batch.config import InputConfig
from reranker_batch.config.labels import LabelConfig
from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, ConfigError, InputError
from reranker_batch.labels.candidates import Candidates
from reranker_batch.labels.deciding import Rules
from reranker_batch.labels.joining import Joiner, TeacherScores
from reranker_batch.labels.judgments import judgments_of
from reranker_batch.labels.record import (
    LabelRecord,
    check_is_free,
    check_settings,
    is_empty,
    read_record,
    shape_of,
    write_record,
)
from reranker_batch.labels.rows import DROPPED_SCHEMA, dropped_rows, label_rows, labels_schema
from reranker_batch.labels.scaling import Calibration, Scale, robust_scale
from reranker_batch.labels.summary import Summary
from reranker_batch.labels.teachers import Teacher, check_input, check_same_input, open_teacher
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import refuse_overlap
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.output.label_parts import (
    DROPPED,
    LABELS,
    names_in,
    publish_label_part,
    read_label_part,
    unit_ids_in,
)
from reranker_batch.storage.output.scored_places import read_logits
from reranker_batch.version import __version__

logger = logging.getLogger(__name__)

DECISIONS_VERSION = 1
"""Counts up whenever equal settings give other labels."""
_UNIT_PAIRS = 16_384
_NOT_DECIDING: Any = {"teachers": True, "exports": True, "positives": {"qrels"}}
"""Teachers and judgments are compared by what they are, not by where they are."""


@dataclass(frozen=True)
class LabelJob:
    """A config of labels made concrete. Nothing has been written."""

    config: LabelConfig
    teachers: tuple[Teacher, ...]
    plan: InputPlan
    joiner: Joiner
    settings: dict[str, Any]

    @property
    def output(self) -> Folder:
        return Folder.at(self.config.output.path)

    @property
    def names(self) -> list[str]:
        return [teacher.name for teacher in self.teachers]


def open_label_job(config: LabelConfig) -> LabelJob:
    """Check the teachers, the input and the judgments.

    Raises:
        ConfigError: Teachers are not finished, were trimmed or have scored another input; the message names them.
        InputError: The input or the judgments cannot be read.
        CommitError: The record of a teacher cannot be read.
    """
    teachers = tuple(open_teacher(teacher) for teacher in config.labels.teachers)
    check_same_input(teachers)
    refuse_overlap(_source(config, teachers[0]).path, config.output.path)
    source = _input_of(config, teachers[0])
    unit_pairs = _UNIT_PAIRS if config.output.unit_pairs == "auto" else config.output.unit_pairs
    plan = _plan(source, teachers[0], unit_pairs=unit_pairs)
    check_input(teachers[0], source, plan.source.reading, plan.identity()["files"])
    joiner = Joiner(plan.source, tuple(map(TeacherScores, teachers)), judgments_of(config.labels.positives))
    return LabelJob(config, teachers, plan, joiner, _settings(config, teachers, plan, joiner))


def _plan(source: InputConfig, teacher: Teacher, *, unit_pairs: int) -> InputPlan:
    try:
        return plan_input(source, unit_pairs=unit_pairs)
    except (InputError, ConfigError) as error:  # the only passthrough column is that of the judgments
        told = str(error).replace("input.columns.passthrough", "labels.positives.column")
        if told == str(error) or teacher.manifest.reading.prepared is None:
            raise type(error)(told) from None
        raise InputError(
            f"{told} These files were made from the input of teacher {teacher.name}, with the columns that its config "
            "asks for: name the column in input.columns.passthrough there, and run the teachers again."
        ) from None


def _input_of(config: LabelConfig, teacher: Teacher) -> InputConfig:
    """What the teacher has read, with the column of judgments alone as passthrough."""
    source = _source(config, teacher)
    converted = teacher.output.folder("run").folder("input")
    if teacher.manifest.reading.prepared is not None and names_in(converted):
        source = source.model_copy(update={"path": converted.uri})
    column = config.labels.positives.column
    columns = source.columns.model_copy(update={"passthrough": [] if column is None else [column]})
    return source.model_copy(update={"columns": columns, "skip_bad_files": bool(teacher.manifest.input.skipped)})


def _source(config: LabelConfig, teacher: Teacher) -> InputConfig:
    return config.input or teacher.manifest.config.input


def _settings(config: LabelConfig, teachers: Sequence[Teacher], plan: InputPlan, joiner: Joiner) -> dict[str, Any]:
    """Everything that decides a label."""
    files = plan.identity()["files"]
    return {
        "version": DECISIONS_VERSION,
        "labels": config.labels.model_dump(exclude=_NOT_DECIDING),
        "order": [teacher.name for teacher in teachers],
        "teachers": {teacher.name: teacher.describe() for teacher in teachers},
        "judgments": joiner.judgments.identity,
        "input": {
            name: {key: value for key, value in file.items() if key != "modified_ns"} for name, file in files.items()
        },
        "units": shape_of(plan.units),
    }


def begin(job: LabelJob) -> LabelRecord:
    """The record of these labels: as it was written when they were begun, or written now.

    A record of other settings is replaced as long as there is no part that was made by them.

    Raises:
        FingerprintError: The folder holds labels of other settings, teachers or input.
        ConfigError: It holds files of others.
        CommitError: Something cannot be read or written.
    """
    recorded = read_record(job.output)
    if recorded is not None and (recorded.settings == job.settings or not is_empty(job.output)):
        check_settings(job.output, recorded, job.settings)
        return recorded
    if recorded is None:
        check_is_free(job.output)
    scales = _scales(job)
    record = LabelRecord(
        fingerprint=fingerprint({**job.settings, "scales": [asdict(scale) for scale in scales]}),
        settings=job.settings,
        scales=scales,
        units=[unit.unit_id for unit in job.plan.units],
        config={**job.config.model_dump(), "input": _source(job.config, job.teachers[0]).model_dump()},
        versions={"reranker_batch": __version__, "pyarrow": pa.__version__},
    )
    write_record(job.output, record)
    return record


def _scales(job: LabelJob) -> list[Scale]:
    if job.config.labels.scale == "none":
        return [Scale() for _ in job.teachers]
    robust = [robust_scale(lambda teacher=teacher: _logits_of(teacher)) for teacher in job.teachers]  # type: ignore[misc]
    if job.config.labels.scale == "robust":
        return robust
    return [_calibrated(job, at, start) for at, start in enumerate(robust)]


def _logits_of(teacher: Teacher) -> Iterator[FloatArray]:
    return (read_logits(teacher.output, unit.unit_id) for unit in teacher.units)


def _calibrated(job: LabelJob, at: int, start: Scale) -> Scale:
    least = job.config.labels.positives.min_relevance
    fitted = Calibration(start).fit(_judged(job, at, least))
    if fitted == start:
        logger.warning(
            "Teacher %s cannot be calibrated: its logits do not rise with relevance. It is scaled by median and "
            "interquartile range.",
            job.names[at],
        )
    return fitted


def _judged(job: LabelJob, at: int, least: int) -> Iterator[tuple[FloatArray, BoolArray]]:
    for candidates in joined(job, job.plan.units):
        where = candidates.is_scored
        positive = candidates.is_judged & (candidates.relevance >= least)
        yield candidates.logits[at][where], positive[where]


def joined(job: LabelJob, units: Sequence[WorkUnit]) -> Iterator[Candidates]:
    """Join units in their order; the next one is read while the caller is at work."""
    joiner = replace(job.joiner, teachers=tuple(map(TeacherScores, job.teachers)))
    with ThreadPoolExecutor(1) as ahead:
        waiting = None
        for unit in units:
            following = ahead.submit(joiner.join, unit)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


@dataclass(frozen=True)
class DoneUnit:
    """A unit whose two files are published."""

    summary: Summary
    hashes: dict[str, str]
    """By the folder of the file."""


def published(job: LabelJob, record: LabelRecord, reported: Mapping[str, Mapping[str, str]]) -> dict[str, DoneUnit]:
    """The units that are done; one with a file that is gone, damaged, of other labels or not the one that was
    `reported` is made again."""
    done = {}
    for unit_id in sorted(set(unit_ids_in(job.output, LABELS)) & set(record.units)):
        try:
            parts = {folder: read_label_part(job.output, folder, unit_id) for folder in (LABELS, DROPPED)}
        except CommitError as error:
            logger.warning("%s It is made again.", error)
            continue
        values = parts[LABELS].record
        is_own = values["fingerprint"] == record.fingerprint and values["unit_id"] == unit_id
        if is_own and parts[DROPPED].record == values:
            hashes = {folder: part.sha256 for folder, part in parts.items()}
            if reported.get(unit_id, hashes) == hashes:
                done[unit_id] = DoneUnit(Summary.from_dict(values["summary"]), hashes)
    return done


def make_parts(job: LabelJob, record: LabelRecord, units: Sequence[WorkUnit]) -> Iterator[tuple[str, DoneUnit]]:
    """Join, decide and publish units, and yield what came of each.

    Raises:
        InputError, CommitError: As `Joiner.join`, or a part cannot be written.
    """
    rules = Rules(job.config.labels, tuple(record.scales))
    schema = labels_schema(job.names)
    for candidates in joined(job, units):
        unit_id = candidates.places.unit.unit_id
        decided = rules.decide(candidates)
        summary = Summary.of(candidates, decided)
        kept, dropped = label_rows(candidates, decided, job.names), dropped_rows(candidates, decided)
        _check_counts(summary, kept, dropped, unit_id)
        values = {"unit_id": unit_id, "fingerprint": record.fingerprint, "summary": asdict(summary)}
        hashes = {
            DROPPED: publish_label_part(job.output, DROPPED, unit_id, dropped, DROPPED_SCHEMA, values),
            LABELS: publish_label_part(job.output, LABELS, unit_id, kept, schema, values),
        }
        yield unit_id, DoneUnit(summary, hashes)


def _check_counts(summary: Summary, kept: pa.Table, dropped: pa.Table, unit_id: str) -> None:
    """Raises CommitError where a candidate is lost, which would be a mistake of ours."""
    labels = sum(len(pa.concat_arrays(kept[name].chunks).flatten()) for name in ("positives", "negatives"))
    if labels + len(dropped) != summary.candidates or sum(summary.dropped.values()) != len(dropped):
        raise CommitError(
            f"{summary.candidates} candidates came in, {labels} became labels and {len(dropped)} were dropped.",
            unit_id=unit_id,
        )
