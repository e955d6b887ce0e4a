"""Labels from a config: the teachers that are not finished run first, then their scores become training data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.config.labels import LabelConfig, TeacherConfig
from reranker_batch.config.yaml_file import read_config_file
from reranker_batch.core.fingerprint import differences
from reranker_batch.errors import CommitError, ConfigError, RerankerBatchError, described
from reranker_batch.exporting.export import check_target, export
from reranker_batch.labels.finishing import make_labels
from reranker_batch.labels.judgments import judgments_of
from reranker_batch.labels.making import open_label_job
from reranker_batch.labels.reasons import MEANINGS
from reranker_batch.labels.record import check_is_free, overlapping_teacher, read_record, refuse_target
from reranker_batch.labels.report import LabelReport
from reranker_batch.labels.teachers import check_output, open_teacher
from reranker_batch.page.labels import write_label_page
from reranker_batch.printing import complain
from reranker_batch.runtime.driver import run
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import check_access, overlap, refuse_overlap
from reranker_batch.storage.output.run_state import MANIFEST, RunState

logger = logging.getLogger(__name__)

_DECIDES_NOTHING = {"device", "trust_remote_code", "precision_sample"}
"""Keys of `model`."""


def label(config: LabelConfig, *, show_progress: bool = False) -> LabelReport:
    """Make training labels of what teachers think of the candidates of a table.

    Teachers that have a config and are not finished run first, one after the other, each as an ordinary job. Labels
    that were interrupted go on; labels that are complete are left as they are.

    Raises:
        ConfigError, InputError, ModelError: A setting, a teacher or the input cannot be used.
        CommitError: A teacher ended without a complete output, something cannot be read or written, or a training set
            cannot be made of the labels.
        RerankerBatchError: The run of a teacher failed.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    _check_places(config)
    unfinished = _unfinished(config)
    if unfinished:
        _check_rest(config)
    for teacher, job in unfinished:
        _run_teacher(teacher, job, show_progress=show_progress)
    on_progress = _tell if show_progress else _say_nothing
    report = make_labels(open_label_job(config), on_recorded=_write_page, on_progress=on_progress)
    if "no_positive" in report.dropped and report.decisions.keys() <= {"no_positive", "dead_letter"}:
        logger.warning(_NO_POSITIVES)
    _export(config, show_progress=show_progress)
    return report


_NO_POSITIVES = (
    "No candidate is a positive: labels.positives names none, with min_relevance or more, that has a score. Are the "
    "ids of the qrels those of the input?"
)


def _export(config: LabelConfig, *, show_progress: bool) -> None:
    """Write all training sets that can be written.

    Raises:
        CommitError: Names those that cannot; the labels and the others are complete.
    """
    failures = []
    for wanted in config.labels.exports:
        try:
            exported = export(config.output.path, wanted.target, format=wanted.format)
        except RerankerBatchError as error:
            failures.append(str(error))
            continue
        if show_progress:
            complain(f"{wanted.target}: {wanted.format}, {exported.shown}")
    if failures:
        raise CommitError("The labels are complete, but not all of labels.exports:\n" + "\n".join(failures))


def _check_places(config: LabelConfig) -> None:
    """Raises ConfigError where labels would be written into what they are made from, or a place cannot be reached."""
    goal, teachers = config.output.path, config.labels.teachers
    check_access(goal, *(teacher.output for teacher in teachers))
    if config.input is not None:
        refuse_overlap(config.input.path, goal)
    if (name := overlapping_teacher(config, goal)) is not None:
        raise ConfigError(
            f"output.path={goal} is the output of teacher {name} or lies around or in it. Name another folder."
        )
    targets = [wanted.target for wanted in config.labels.exports]
    for at, target in enumerate(targets):
        refuse_target(config, target)
        for other in targets[at + 1 :]:
            if overlap(target, other):
                raise ConfigError(f"labels.exports: {other} is or lies around or in {target}. Name other folders.")


def _check_rest(config: LabelConfig) -> None:
    """Refuse before any teacher runs what would be refused after all have run.

    Raises:
        InputError: The qrels cannot be read.
        ConfigError: A folder that is to be written holds files of others.
    """
    judgments_of(config.labels.positives)
    output = Folder.at(config.output.path)
    if read_record(output) is None:
        check_is_free(output)
    for wanted in config.labels.exports:
        check_target(wanted.format, wanted.target, config.output.path)


def _unfinished(config: LabelConfig) -> Sequence[tuple[TeacherConfig, JobConfig]]:
    """The teachers that have to run, each with its job. All are checked before the first one runs."""
    jobs = []
    for teacher in config.labels.teachers:
        if teacher.config is not None and not _is_finished(teacher):
            jobs.append((teacher, _job_of(teacher, teacher.config, config)))
            continue
        open_teacher(teacher)
        if teacher.config is not None:
            _check_config(teacher, _job_of(teacher, teacher.config, config), has_input=config.input is None)
    return jobs


def _check_config(teacher: TeacherConfig, job: JobConfig, *, has_input: bool) -> None:
    """Refuse a finished output that a config of other settings has made: its scores are not those that are asked for.

    Raises:
        ConfigError: Names the settings.
    """
    manifest = RunState(Folder.at(teacher.output)).read(MANIFEST) or {}
    recorded, asked = (_deciding(values, has_input=has_input) for values in (manifest["config"], job.model_dump()))
    if lines := differences(recorded, asked):
        raise ConfigError(
            f"Teacher {teacher.name}: {teacher.output} was made with other settings than {teacher.config} has now:\n  "
            + "\n  ".join(lines)
            + "\nName another output, set these back, or leave out its key config to take the output as it is."
        )


def _deciding(values: Mapping[str, Any], *, has_input: bool) -> dict[str, Any]:
    """What of a config decides the logits, without asking a model."""
    sections = {
        name: {key: value for key, value in values.get(name, {}).items() if key not in _DECIDES_NOTHING}
        for name in ("model", "limits")
    }
    return {**sections, "input": {"path": values["input"].get("path")}} if has_input else sections


def _is_finished(teacher: TeacherConfig) -> bool:
    state = RunState(Folder.at(teacher.output))
    return state.read(MANIFEST) is not None and state.is_complete


def _job_of(teacher: TeacherConfig, path: str, config: LabelConfig) -> JobConfig:
    """The config of a teacher, with the output and the input that the config of labels names."""
    values = read_config_file(Path(path), JobConfig)
    if config.input is not None:
        values["input"] = config.input.model_dump()
    output: Any = values.get("output") or {}
    if isinstance(output, dict):
        values["output"] = {"layout": "nested", **output, "path": teacher.output}
    try:
        job = JobConfig.of(values)
    except ConfigError as error:
        raise ConfigError(f"Teacher {teacher.name}, {path}: {error}") from None
    check_output(teacher.name, job.output.layout, job.ranking.top_n)
    return _with_judgments(job, teacher, config.labels.positives.column)


def _with_judgments(job: JobConfig, teacher: TeacherConfig, column: str | None) -> JobConfig:
    """With the column of judgments, which an input that has to be converted keeps only if it is asked for.

    Raises:
        ConfigError: The input is prepared from a run, a corpus and queries, and has no such column.
    """
    kept = job.input.columns.passthrough
    if column is None or column in kept:
        return job
    if job.prepare.is_wanted:
        raise ConfigError(
            f"labels.positives.column={column}: the input of teacher {teacher.name} is prepared from a run, which has "
            "no such column. Use positives.from: qrels."
        )
    columns = job.input.columns.model_copy(update={"passthrough": [*kept, column]})
    return job.model_copy(update={"input": job.input.model_copy(update={"columns": columns})})


def _run_teacher(teacher: TeacherConfig, job: JobConfig, *, show_progress: bool) -> None:
    if show_progress:
        complain(f"Teacher {teacher.name}: {job.model.name}")
    report = run(job, show_progress=show_progress)
    if report.exit_code:
        raise CommitError(
            f"Teacher {teacher.name} is not complete: {'; '.join(report.reasons)}. `reranker-batch accept "
            f"{teacher.output}` lets it through; the same `label` command then goes on."
        )


def _write_page(output: Folder, report: LabelReport) -> None:
    """Labels do not fail because of their page."""
    try:
        write_label_page(output, report.to_dict(), {fate.code: text for fate, text in MEANINGS.items()})
    except Exception as error:
        logger.warning("There is no page of these labels: %s", described(error))


def _tell(done: int, whole: int) -> None:
    if done == whole or done % max(1, whole // 20) == 0:
        complain(f"labels: {done:,} of {whole:,} parts")


def _say_nothing(done: int, whole: int) -> None:
    return None
