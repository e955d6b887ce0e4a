"""A run from config to report: plan, compare with what is there, process the rest, prove and close."""

from __future__ import annotations

import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from reranker_batch.config import JobConfig
from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.core.report import PartEntry, RunReport, Status, is_within, totals_of
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError, FingerprintError, RerankerBatchError
from reranker_batch.runtime import dataset
from reranker_batch.runtime.job import Job, open_job
from reranker_batch.runtime.placement import place
from reranker_batch.runtime.progress import Display, NoDisplay, open_display
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.parts import PublishedPart, read_part
from reranker_batch.storage.run_state import MANIFEST, PLAN, REPORT, RunState
from reranker_batch.version import __version__

logger = logging.getLogger(__name__)

_LIBRARIES = ("ray", "torch", "transformers", "tokenizers", "pyarrow", "polars")


@dataclass
class Attempt:
    """What this attempt has seen so far: parts by unit, what was computed, how long the steps took."""

    units: list[WorkUnit]
    parts: dict[str, PartEntry] = field(default_factory=dict)
    skipped: int = 0
    computed_pairs: int = 0
    computed_tokens: int = 0
    step_s: Counter[str] = field(default_factory=Counter)
    replicas: int = 0
    started: float = field(default_factory=time.monotonic)

    def skip(self, part: PublishedPart) -> None:
        self.parts[part.record.unit_id] = _entry_of(part)
        self.skipped += 1

    def add(self, entry: Mapping[str, Any]) -> None:
        names = ("unit_id", "num_rows", "size_bytes", "sha256", "counts")
        self.parts[entry["unit_id"]] = PartEntry(**{name: entry[name] for name in names})
        self.computed_pairs += entry["counts"]["scored"]
        self.computed_tokens += entry["counts"]["model_tokens"]
        self.step_s.update(entry["timings"])

    @property
    def remaining(self) -> list[WorkUnit]:
        return [unit for unit in self.units if unit.unit_id not in self.parts]

    def report(self, status: Status, message: str, output: str) -> RunReport:
        parts = [self.parts[unit_id] for unit_id in sorted(self.parts)]
        return RunReport(
            status=status,
            message=message,
            output=output,
            totals=totals_of(part.counts for part in parts),
            units=len(self.units),
            units_published=len(parts),
            units_skipped=self.skipped,
            parts=parts,
            computed_pairs=self.computed_pairs,
            computed_tokens=self.computed_tokens,
            wall_s=time.monotonic() - self.started,
            step_s=dict(self.step_s),
            replicas=self.replicas,
            versions=_versions(),
        )


def run(config: JobConfig, *, show_progress: bool = False) -> RunReport:
    """Run a job, or finish one that was interrupted; an output that is complete is left as it is.

    Raises:
        ConfigError, InputError, ModelError: Found before anything was started or written.
        RerankerBatchError: The run failed; `run/report.json` says how far it came.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    job = open_job(config)
    state = RunState(Folder.at(config.output.path))
    recorded = state.read(MANIFEST)
    if recorded is not None:
        _check_same_job(job, recorded, dtype=None)
    attempt = Attempt(list(_units(job, state)))
    with _terminate_as_interrupt(), _reported(attempt, state):
        _skip_published(attempt, state)
        if state.is_complete and not attempt.remaining:
            return _closing_report(attempt, config, "nothing to do: the output is complete")
        _process(job, state, attempt, recorded, show_progress=show_progress)
        report = _closing_report(attempt, config, "")
        state.write(REPORT, report.to_dict())
        state.complete()
    return report


def _units(job: Job, state: RunState) -> tuple[WorkUnit, ...]:
    """As they were cut when the run began, so that another `unit_pairs` does not orphan finished parts."""
    recorded = state.recorded_units()
    return job.plan.units if recorded is None else tuple(recorded)


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


def _skip_published(attempt: Attempt, state: RunState) -> None:
    """Units whose part is there and sound; a damaged part is computed again."""
    with ThreadPoolExecutor(8) as threads:
        for part in threads.map(_read_or_warn(state.output), state.published_units(attempt.units)):
            if part is not None:
                attempt.skip(part)


def _read_or_warn(output: Folder) -> Callable[[str], PublishedPart | None]:
    def read(unit_id: str) -> PublishedPart | None:
        try:
            return read_part(output, unit_id)
        except CommitError as error:
            logger.warning("%s It is computed again.", error)
            return None

    return read


def _process(
    job: Job, state: RunState, attempt: Attempt, recorded: Mapping[str, Any] | None, *, show_progress: bool
) -> None:
    config = job.config
    with dataset.ray_session(config.runtime.ray_address):
        placement = place(config, dataset.nodes())
        dtype = job.resolve_dtype(placement)
        if recorded is not None:
            _check_same_job(job, recorded, dtype=dtype)
        settings = job.settings(dtype=dtype)
        spec = job.spec(placement, dtype=dtype, fingerprint=fingerprint(settings))
        _record_start(job, state, attempt, settings)
        attempt.replicas = placement.max_replicas
        if not attempt.remaining:
            return
        display = _display(attempt, show_progress)
        try:
            timeout_s = config.runtime.no_progress_timeout_s
            for entry in dataset.process_units(attempt.remaining, spec, placement, no_progress_timeout_s=timeout_s):
                attempt.add(entry)
                display.advance(entry["counts"])
        finally:
            display.close()


def _record_start(job: Job, state: RunState, attempt: Attempt, settings: dict[str, Any]) -> None:
    state.start()
    manifest = {
        "fingerprint": fingerprint(settings),
        "settings": settings,
        "input": job.plan.identity(),
        "config": job.config.model_dump(),
        "versions": _versions(),
    }
    if state.read(MANIFEST) is None:
        state.write(MANIFEST, manifest)
    if state.read(PLAN) is None:
        state.write(PLAN, {"units": [unit.to_dict() for unit in attempt.units]})


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
def _reported(attempt: Attempt, state: RunState) -> Iterator[None]:
    """Leave a report also when the run ends early, and raise what the caller can handle."""
    try:
        yield
    except BaseException as error:
        reason = _cause(error)
        status: Status = "interrupted" if isinstance(reason, KeyboardInterrupt) else "failed"
        if state.read(PLAN) is not None and not state.is_complete:
            state.write(REPORT, attempt.report(status, str(reason), state.output.uri).to_dict())
        if reason is error:
            raise
        raise reason from error


def _cause(error: BaseException) -> BaseException:
    """The error of ours inside what Ray wrapped around it, or the error itself.

    Ray's wrapper passes for the class it wraps and has a remote traceback for a message, so the innermost counts.
    """
    found, seen = error, error
    while seen is not None:
        if isinstance(seen, RerankerBatchError | KeyboardInterrupt):
            found = seen
        seen = getattr(seen, "cause", None) or seen.__cause__  # type: ignore[assignment]
    return found


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does. Does nothing outside the main thread, where signals are not ours."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _entry_of(part: PublishedPart) -> PartEntry:
    record = part.record
    return PartEntry(record.unit_id, part.num_rows, part.size_bytes, part.sha256, record.counts)


def _versions() -> dict[str, str]:
    return {"reranker-batch": __version__, **{name: version(name) for name in _LIBRARIES}}
