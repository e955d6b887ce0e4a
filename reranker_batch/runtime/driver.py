"""A run from config to report: plan, compare with what is there, process the rest, prove and close."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.core.precision import choose_units
from reranker_batch.core.report import RunReport, Status, is_within, totals_of
from reranker_batch.errors import CommitError, FingerprintError
from reranker_batch.runtime import dataset
from reranker_batch.runtime.attempt import Attempt, versions
from reranker_batch.runtime.failures import explain
from reranker_batch.runtime.interrupts import terminate_as_interrupt
from reranker_batch.runtime.job import Job, open_job
from reranker_batch.runtime.ledger import start_ledger
from reranker_batch.runtime.placement import Placement, place
from reranker_batch.runtime.progress import Display, NoDisplay, open_display
from reranker_batch.runtime.steps import JobSpec
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.gate import conclude
from reranker_batch.storage.lock import Lock, hold_lock
from reranker_batch.storage.published import published_parts
from reranker_batch.storage.run_state import MANIFEST, PLAN, REPORT, RunState

logger = logging.getLogger(__name__)


def run(config: JobConfig, *, show_progress: bool = False) -> RunReport:
    """Run a job, or finish one that was interrupted; an output that is complete is left as it is.

    Raises:
        ConfigError, InputError, ModelError: Found before anything was started or written.
        RerankerBatchError: The run failed; `run/report.json` says how far it came.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    return run_job(open_job(config), show_progress=show_progress)


def run_job(job: Job, *, show_progress: bool = False) -> RunReport:
    """Run a job whose config, model files and input have been checked; raises what `run` raises."""
    state = RunState(Folder.at(job.config.output.path))
    with terminate_as_interrupt(), hold_lock(state.output) as lock:
        return _run_alone(job, state, lock, show_progress=show_progress)


def _run_alone(job: Job, state: RunState, lock: Lock, *, show_progress: bool) -> RunReport:
    config = job.config
    recorded = state.read(MANIFEST)
    if recorded is not None:
        _check_same_job(job, recorded, dtype=None)
    attempt = Attempt(state.units(job.plan.units), skipped_files=job.plan.skipped)
    with _reported(attempt, state, lock):
        _skip_published(attempt, state, recorded)
        message = "nothing to do: the output is complete" if state.is_complete and not attempt.remaining else ""
        if attempt.remaining:
            _process(job, state, attempt, recorded, lock, show_progress=show_progress)
        report = _closing_report(attempt, config, message)
        lock.confirm()
        return conclude(state, report)


def _check_same_job(job: Job, recorded: Mapping[str, Any], *, dtype: str | None) -> None:
    """Without a device, `dtype: auto` is taken for what it was; it is compared again when the device is known.

    Raises:
        FingerprintError: Settings or input differ from those of the output; the message lists how.
    """
    asked_dtype = dtype or job.config.model.dtype
    if asked_dtype == "auto":
        asked_dtype = recorded["settings"]["model"]["dtype"]
    lines = differences(recorded["settings"], job.settings(dtype=asked_dtype))
    lines += differences({"input": recorded["input"]}, {"input": job.plan.identity()})
    if lines:
        raise FingerprintError(
            f"{job.config.output.path} holds results of another job:\n  "
            + "\n  ".join(lines)
            + "\nUse another output.path, or set these back."
        )


def _skip_published(attempt: Attempt, state: RunState, recorded: Mapping[str, Any] | None) -> None:
    made_by = None if recorded is None else recorded["fingerprint"]
    for part in published_parts(state, attempt.units, fingerprint=made_by):
        attempt.skip(part)


def _process(
    job: Job,
    state: RunState,
    attempt: Attempt,
    recorded: Mapping[str, Any] | None,
    lock: Lock,
    *,
    show_progress: bool,
) -> None:
    config = job.config
    with dataset.ray_session(config.runtime.ray_address), terminate_as_interrupt():
        placement = place(config, dataset.nodes())
        dtype = job.resolve_dtype(placement)
        if recorded is not None:
            _check_same_job(job, recorded, dtype=dtype)
        settings = job.settings(dtype=dtype)
        sample = choose_units([unit.unit_id for unit in attempt.remaining], config.model.precision_sample)
        spec = job.spec(placement, dtype=dtype, fingerprint=fingerprint(settings))
        spec = replace(spec, lock=lock.ticket, precision_sample=sample)
        _record_start(job, state, attempt, settings)
        attempt.replicas = placement.max_replicas
        if attempt.remaining:
            _process_units(attempt, spec, placement, config.runtime.no_progress_timeout_s, show_progress=show_progress)


def _process_units(
    attempt: Attempt, spec: JobSpec, placement: Placement, timeout_s: float, *, show_progress: bool
) -> None:
    units = attempt.remaining
    ledger = start_ledger(max_deaths=dataset.max_deaths(len(units)))
    display = _display(attempt, show_progress)
    failure: BaseException | None = None
    try:
        for entry in dataset.process_units(units, spec, placement, ledger, no_progress_timeout_s=timeout_s):
            attempt.add(entry)
            display.advance(entry["counts"])
    except BaseException as error:
        failure = explain(error, ledger, no_progress_timeout_s=timeout_s)
    display.close()
    attempt.attempts = ledger.attempts()
    if failure is not None:
        gc.collect()  # Ray Data's executor and its error hold each other; with them go the replicas
        raise failure


def _record_start(job: Job, state: RunState, attempt: Attempt, settings: dict[str, Any]) -> None:
    state.start(attempt.remaining)
    manifest = {
        "fingerprint": fingerprint(settings),
        "settings": settings,
        "recipe": {"name": job.recipe.name, "why": job.recipe_reason},
        "input": job.plan.identity(),
        "config": job.config.model_dump(),
        "versions": versions(),
    }
    state.record(manifest, attempt.units)


def _display(attempt: Attempt, show_progress: bool) -> Display:
    if not show_progress:
        return NoDisplay()
    done = totals_of(part.counts for part in attempt.parts.values())
    return open_display(
        pairs=sum(unit.num_pairs for unit in attempt.units),
        units=len(attempt.units),
        done_pairs=done.candidates,
        done_units=len(attempt.parts),
    )


def _closing_report(attempt: Attempt, config: JobConfig, message: str) -> RunReport:
    """Raises CommitError when a unit has no part, which would be a mistake of ours."""
    if missing := attempt.remaining:
        raise CommitError(f"{len(missing)} units ended without a part, such as {missing[0].unit_id}.")
    report = attempt.report("complete", message, config.output.path)
    failed, candidates = report.totals.num_failed, report.totals.candidates
    if is_within(config.output.max_failed, failed=failed, candidates=candidates):
        return report
    return replace(
        report,
        status="too_many_failed",
        message=f"{failed} dead letters are more than output.max_failed={config.output.max_failed}",
    )


@contextmanager
def _reported(attempt: Attempt, state: RunState, lock: Lock) -> Iterator[None]:
    """Leave a report also when the run ends early, unless the output is another run's by now."""
    try:
        yield
    except BaseException as error:
        status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        try:
            lock.confirm()
            if state.read(PLAN) is not None and not state.is_complete:
                state.write(REPORT, attempt.report(status, str(error), state.output.uri).to_dict())
        except CommitError as second:  # it must not hide the first
            logger.warning("There is no report of this attempt: %s", second)
        raise
