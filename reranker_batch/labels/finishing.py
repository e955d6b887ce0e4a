"""Labels from a config to `_SUCCESS`: begin, or go on, prove the counts, close."""

from __future__ import annotations

import time
from collections.abc import Callable

from reranker_batch.errors import CommitError
from reranker_batch.labels.card import card_of
from reranker_batch.labels.making import LabelJob, begin, make_parts, published
from reranker_batch.labels.record import REPORT
from reranker_batch.labels.report import LabelReport
from reranker_batch.labels.summary import total
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.output.label_parts import (
    DROPPED,
    LABELS,
    is_marked,
    mark,
    publish_file,
    unit_ids_in,
    withdraw_mark,
)
from reranker_batch.storage.output.lock import hold_lock
from reranker_batch.storage.output.run_state import RunState

CARD = "README.md"
OnRecorded = Callable[[Folder, LabelReport], None]
OnProgress = Callable[[int, int], None]


def make_labels(
    job: LabelJob, *, on_recorded: OnRecorded, on_progress: OnProgress = lambda done, of: None
) -> LabelReport:
    """Make what is missing of the labels of a job, or find them complete.

    `on_recorded` is called with the report before the labels are marked, `on_progress` after every part with how many
    are done.

    Raises:
        FingerprintError, ConfigError, InputError, CommitError: See `open_label_job`, `begin` and `make_parts`.
        LockedError: Another command is at work on this folder.
    """
    started = time.perf_counter()
    with hold_lock(job.output) as lock:
        record = begin(job)
        summaries = published(job, record)
        missing = [unit for unit in job.plan.units if unit.unit_id not in summaries]
        if missing:
            withdraw_mark(job.output)
        for unit_id, summary in make_parts(job, record, missing):
            summaries[unit_id] = summary
            on_progress(len(summaries), len(record.units))
        _refuse_foreign(job, record.units)
        whole = total([summaries[unit_id] for unit_id in record.units], len(job.teachers))
        report = LabelReport.of(
            job.output.uri, record, whole, parts_made=len(missing), wall_s=time.perf_counter() - started
        )
        lock.confirm()
        if missing or not is_marked(job.output):
            _close(job.output, report, on_recorded)
        return report


def _close(output: Folder, report: LabelReport, on_recorded: OnRecorded) -> None:
    RunState(output).write(REPORT, report.to_dict())
    reached("labels_reported")
    publish_file(output, CARD, card_of(report).encode())
    on_recorded(output, report)
    mark(output)


def _refuse_foreign(job: LabelJob, unit_ids: list[str]) -> None:
    """Raises CommitError where a part belongs to no unit."""
    for folder in (LABELS, DROPPED):
        if foreign := sorted(set(unit_ids_in(job.output, folder)) - set(unit_ids)):
            path = job.output.child(folder, f"part-{foreign[0]}.parquet")
            raise CommitError(f"{path} belongs to no unit of these labels. Move it away.")
