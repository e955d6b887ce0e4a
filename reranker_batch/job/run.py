"""A run from config to report: plan, compare with what is there, process the rest, prove and close."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from reranker_batch.core.backend import Device
from reranker_batch.core.counts import Counts
from reranker_batch.core.findings import Findings
from reranker_batch.core.fingerprint import Settings, differences
from reranker_batch.core.gates import failed_gate, gate_results
from reranker_batch.core.mapping import in_threads
from reranker_batch.core.precision import choose_units
from reranker_batch.core.report import RunReport, Status, job_facts
from reranker_batch.core.reuse import ReuseRecord
from reranker_batch.errors import CommitError, ConfigError, FingerprintError, ReuseRejectedError
from reranker_batch.job.comparison import Comparison
from reranker_batch.job.display import Display, NoDisplay, open_display
from reranker_batch.job.engine import Engine, OpenEngine
from reranker_batch.job.interrupts import terminate_as_interrupt
from reranker_batch.job.job import Job
from reranker_batch.job.reusing import Reuse, recorded_reuse
from reranker_batch.job.run_progress import RunProgress, versions
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.page.publishing import try_to_write_page
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.input.changes import input_changes
from reranker_batch.storage.output.gate import conclude, known
from reranker_batch.storage.output.lock import Lock, hold_lock
from reranker_batch.storage.output.manifest import Manifest
from reranker_batch.storage.output.published import published_files, published_parts
from reranker_batch.storage.output.run_state import DELETING, MANIFEST, PLAN, REPORT, RunState

logger = logging.getLogger(__name__)

_PARTS_WITHOUT_ENGINE = 2_000
"""Parts that are read again in this process, if that may be all there is to do."""


def run_job(job: Job, open_engine: OpenEngine, *, show_progress: bool = False) -> RunReport:
    """Run a job whose config, model files and input have been checked, or finish one that was interrupted.

    Raises:
        ConfigError: Found before anything was started or written.
        RerankerBatchError: The run failed; `run/report.json` says how far it came.
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; the same call goes on from there.
    """
    state = RunState(Folder.at(job.config.output.path))
    with terminate_as_interrupt(), hold_lock(state.output) as lock:
        return _Run(job, state, lock, open_engine, show_progress).to_its_end()


@dataclass
class _Run:
    """One attempt at a job that holds the lock of its output."""

    job: Job
    state: RunState
    lock: Lock
    open_engine: OpenEngine
    show_progress: bool
    recorded_reuse: ReuseRecord | None = None

    def to_its_end(self) -> RunReport:
        if self.state.read(DELETING) is not None:
            raise ConfigError(
                f"{self.state.output.uri} is being deleted. Let `reranker-batch clean` finish that, or use another "
                "output.path."
            )
        recorded = self.state.read(MANIFEST)
        if recorded is not None:
            _check_same_job(self.job, recorded, self.job.devices)
        self.recorded_reuse = recorded_reuse(self.job.config, self.state)
        manifest = None if recorded is None else Manifest.of(recorded, self.state.path_of(MANIFEST))
        comparison = Comparison.open(self.job.config, manifest, known(self.state.report))
        plan = self.job.plan
        progress = RunProgress(self.state.units(plan.units), skipped_files=plan.skipped, warnings=plan.warnings)
        progress.job = {} if recorded is None else job_facts(recorded)
        progress.reuse = self.recorded_reuse
        with self._reported(progress):
            findings = self._complete(progress, recorded, comparison)
            is_idle = self.state.is_complete and progress.skipped == len(progress.units)
            message = "nothing to do: the output is complete" if is_idle else ""
            report = self._closing_report(progress, findings, message)
            self.lock.confirm()
            return conclude(self.state, report, on_recorded=try_to_write_page)

    def _complete(self, progress: RunProgress, recorded: Mapping[str, Any] | None, comparison: Comparison) -> Findings:
        """Read what is published, compute the rest and compare the result. An engine that is needed reads parts too."""
        files = published_files(self.state, progress.units)
        with ExitStack() as opened:
            engine = None
            if len(files.parts) > _PARTS_WITHOUT_ENGINE or len(files.parts) < len(progress.units):
                engine = self._open_engine(opened)
            if recorded is not None:
                each = in_threads if engine is None else engine.map
                made_by = recorded["fingerprint"]
                for part in published_parts(self.state, files, progress.units, fingerprint=made_by, each=each):
                    progress.skip(part)
            progress.has_read_parts = True
            if progress.remaining:
                engine = engine or self._open_engine(opened)
                self._process(engine, progress, recorded, comparison)
            report = progress.report("complete", "", self.job.config.output.path)
            return comparison.findings(report, in_threads if engine is None else engine.map)

    def _open_engine(self, opened: ExitStack) -> Engine:
        """Closed by `opened`. Signals go on to end the run, whatever handler the engine has put in place."""
        engine = opened.enter_context(self.open_engine(self.job.config, self.job.devices))
        opened.enter_context(terminate_as_interrupt())
        return engine

    def _process(
        self, engine: Engine, progress: RunProgress, recorded: Mapping[str, Any] | None, comparison: Comparison
    ) -> None:
        device = engine.replicas.device
        if recorded is not None:
            _check_same_job(self.job, recorded, [device])
        if (caution := self.job.backend.caution(device)) is not None:
            logger.warning(caution)
        settings = self.job.settings(device)
        reuse = Reuse.choose(self.job.config, self.state, self.recorded_reuse, settings.scoring)
        self._record_start(progress, settings, engine.name, comparison.compared_with)
        num_pairs = self.job.config.model.precision_sample
        sample = choose_units([unit.unit_id for unit in progress.remaining], num_pairs)
        spec = replace(
            self.job.spec(engine.replicas),
            lock=self.lock.ticket,
            precision_sample=sample,
            memo=self._manifest().config.output.memo,
        )
        progress.replicas = engine.replicas.count
        if reuse is None:
            self._process_units(engine, progress, spec)
        else:
            self._process_with_reuse(engine, progress, spec, reuse, str(settings.scoring["model"]["dtype"]))

    def _process_with_reuse(
        self, engine: Engine, progress: RunProgress, spec: WorkerSpec, reuse: Reuse, dtype: str
    ) -> None:
        """Score what is left, or all pairs if the model no longer gives the scores that would be reused."""
        if self.recorded_reuse is None:
            reuse.begin()
        try:
            is_checked = reuse.record.check is not None or any(part.counts.reused for part in progress.parts.values())
            reused = reuse.prepared(spec, progress.remaining, engine.map, dtype=dtype, is_checked=is_checked)
            if reused.max_replicas is not None:
                progress.replicas = min(reused.max_replicas, engine.replicas.count)
            try:
                self._process_units(engine, progress, reused)
                reuse.accept(engine.reuse_check())
            except ReuseRejectedError:
                reuse.reject(engine.reuse_check())
                progress.replicas = engine.replicas.count
                self._process_units(engine, progress, spec)
        finally:
            progress.reuse = reuse.record

    def _manifest(self) -> Manifest:
        """Of the attempt that began this output."""
        return Manifest.of(self.state.read(MANIFEST) or {}, self.state.path_of(MANIFEST))

    def _process_units(self, engine: Engine, progress: RunProgress, spec: WorkerSpec) -> None:
        display = self._display(progress)
        try:
            with closing(engine.process(progress.remaining, spec, display.pulse)) as entries:
                for entry in entries:
                    progress.add(entry)
                    display.advance(entry.part.counts)
        finally:
            display.close()
            progress.attempts = dict(engine.attempts())

    def _record_start(self, progress: RunProgress, settings: Settings, engine: str, compared_with: str | None) -> None:
        job, state = self.job, self.state
        state.start(progress.remaining)
        manifest = {
            "fingerprint": settings.fingerprint,
            "scoring_fingerprint": settings.scoring_fingerprint,
            "settings": settings.to_dict(),
            "model": asdict(job.backend.description),
            "input": job.plan.identity(),
            "config": job.config.model_dump(),
            "engine": engine,
            "compared_with": compared_with,
            "versions": versions(),
        }
        state.record(manifest, progress.units)
        progress.job = job_facts(manifest)

    def _display(self, progress: RunProgress) -> Display:
        if not self.show_progress:
            return NoDisplay()
        done = sum((part.counts for part in progress.parts.values()), Counts())
        return open_display(
            pairs=sum(unit.num_pairs for unit in progress.units),
            units=len(progress.units),
            done_pairs=done.candidates,
            done_units=len(progress.parts),
        )

    def _closing_report(self, progress: RunProgress, findings: Findings, message: str) -> RunReport:
        """Raises CommitError when a unit has no part, which would be a mistake of ours."""
        config = self.job.config
        if missing := progress.remaining:
            raise CommitError(f"{len(missing)} units ended without a part, such as {missing[0].unit_id}.")
        report = progress.report("complete", message, config.output.path)
        failed = failed_gate(config.output.max_failed, report.totals)
        gates = [failed, *gate_results(config.gates, report.totals, findings.movement, findings.metrics)]
        digest = findings.digest(part.sha256 for part in report.parts)
        report = replace(
            report,
            **vars(findings),
            findings_digest=digest,
            gates=gates,
            warnings=[*report.warnings, *_listwise_warnings(self.job, report)],
        )
        if not report.reasons:
            return report
        status: Status = "gated" if failed.is_met else "too_many_failed"
        return replace(report, status=status, message="; ".join(report.reasons))

    @contextmanager
    def _reported(self, progress: RunProgress) -> Iterator[None]:
        """Leave a report also when the run ends early, unless the output is another run's by now.

        Before the published parts are read, the report of the earlier attempt knows more than this one.
        """
        try:
            yield
        except BaseException as error:
            status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            try:
                self.lock.confirm()
                if progress.has_read_parts and self.state.read(PLAN) is not None and not self.state.is_complete:
                    report = progress.report(status, str(error), self.state.output.uri)
                    self.state.write(REPORT, report.to_dict())
                    try_to_write_page(self.state)
            except CommitError as second:  # it must not hide the first
                logger.warning("There is no report of this attempt: %s", second)
            raise


def _listwise_warnings(job: Job, report: RunReport) -> Iterator[str]:
    dead_letters = report.totals.num_dead_letters
    if job.limits.is_listwise and dead_letters:
        yield (
            f"{dead_letters:,} candidates are dead letters. The model reads the documents of a request together, so "
            "the other scores of their queries are those of lists without them."
        )


def _check_same_job(job: Job, recorded: Mapping[str, Any], devices: Sequence[Device]) -> None:
    """Compare with the job as it would be on one of `devices`.

    Raises:
        FingerprintError: Settings or input differ from those of the output; the message lists how.
    """
    lines = min((differences(recorded["settings"], job.settings(device).to_dict()) for device in devices), key=len)
    lines += input_changes(recorded["input"], job.plan.identity())
    if lines:
        raise FingerprintError(
            f"{job.config.output.path} holds results of another job:\n  "
            + "\n  ".join(lines)
            + f"\nUse another output.path, or set these back.{_precision_advice(job, recorded, lines)}"
        )


def _precision_advice(job: Job, recorded: Mapping[str, Any], lines: Sequence[str]) -> str:
    """For who has set no precision and now runs on another kind of device."""
    model = recorded["settings"]["scoring"].get("model")
    was = model.get("dtype") if isinstance(model, dict) else None
    is_other = any(line.startswith("scoring.model.dtype: ") for line in lines)
    if was is None or not is_other or job.config.model.dtype != "auto":
        return ""
    return f" It was begun in {was}: set model.dtype: {was} to go on here."
