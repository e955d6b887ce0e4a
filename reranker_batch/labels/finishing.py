"""Labels from a config to `_SUCCESS`: begin, or go on, prove the counts, close."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from reranker_batch.errors import CommitError
from reranker_batch.labels.card import card_of
from reranker_batch.labels.making import LabelJob, begin, make_parts, published
from reranker_batch.labels.record import REPORT
from reranker_batch.labels.report import Attempt, LabelReport, read_report
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

logger = logging.getLogger(__name__)

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
        reported = _reported(job.output)
        done = published(job, record, {} if reported is None else reported.hashes)
        missing = [unit for unit in job.plan.units if unit.unit_id not in done]
        if missing:
            withdraw_mark(job.output)
        for unit_id, unit in make_parts(job, record, missing):
            done[unit_id] = unit
            on_progress(len(done), len(record.units))
        _refuse_foreign(job, record.units)
        whole = total([done[unit_id].summary for unit_id in record.units], len(job.teachers))
        hashes = {unit_id: done[unit_id].hashes for unit_id in record.units}
        attempt = Attempt(len(missing), time.perf_counter() - started)
        report = LabelReport.of(job.output.uri, record, whole, hashes, attempt)
        lock.confirm()
        if missing or not is_marked(job.output) or reported is None or report.differing(reported):
            _close(job.output, report, on_recorded)
        return report


def _reported(output: Folder) -> LabelReport | None:
    """The report of an earlier attempt; one that cannot be read is written again."""
    try:
        return read_report(output)
    except CommitError as error:
        logger.warning("%s", error)
        return None


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
