"""Progress of a run: published parts, counts, timings, and the report built from them."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from typing import Any

from reranker_batch.core.counts import Counts
from reranker_batch.core.precision import Precision
from reranker_batch.core.report import PartEntry, RunReport, Status, UnitTime, replica_time, utc_now
from reranker_batch.core.reuse import ReuseRecord
from reranker_batch.core.throughput import Throughput
from reranker_batch.core.unit_entry import UnitEntry
from reranker_batch.core.unit_summary import UnitSummary
from reranker_batch.core.units import WorkUnit
from reranker_batch.storage.output.parts import PublishedPart
from reranker_batch.version import __version__

_LIBRARIES = ("ray", "torch", "transformers", "tokenizers", "pyarrow", "polars")
_version = cache(version)
"""It parses all that a library says about itself; a run asks for it several times."""
_MAX_SLOWEST = 10
_WORK = ("prepare", "score", "rescore", "finish")
"""Steps of a unit without the waiting between them."""


@dataclass
class RunProgress:
    """Parts by unit, what this attempt computed, how long the steps took."""

    units: list[WorkUnit]
    parts: dict[str, PartEntry] = field(default_factory=dict)
    skipped: int = 0
    has_read_parts: bool = False
    """Whether `parts` has all that earlier attempts published."""
    computed_pairs: int = 0
    computed_tokens: int = 0
    step_s: Counter[str] = field(default_factory=Counter)
    oom_splits: int = 0
    executions: Counter[str] = field(default_factory=Counter)
    precision: Precision | None = None
    attempts: dict[str, int] = field(default_factory=dict)
    replicas: int = 0
    started: float = field(default_factory=time.monotonic)
    skipped_files: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    job: Mapping[str, Any] = field(default_factory=dict)
    summary: UnitSummary = field(default=UnitSummary())
    throughput: Throughput = field(default_factory=Throughput)
    slowest: list[UnitTime] = field(default_factory=list)
    reuse: ReuseRecord | None = None

    def skip(self, part: PublishedPart) -> None:
        self.parts[part.record.unit_id] = part.entry()
        self.summary += part.record.summary
        self.skipped += 1

    def add(self, entry: UnitEntry) -> None:
        self.parts[entry.part.unit_id] = entry.part
        self.computed_pairs += entry.part.counts.scored - entry.part.counts.reused
        self.computed_tokens += entry.part.counts.model_tokens
        self.oom_splits += entry.oom_splits
        if entry.execution:  # else nothing was left to score
            self.executions[entry.execution] += 1
        self.step_s.update(entry.timings)
        self.summary += entry.summary
        self._time(entry)
        if entry.precision is not None:
            self.precision = (self.precision or Precision()).add(entry.precision)

    def _time(self, entry: UnitEntry) -> None:
        part, score_s = entry.part, entry.timings.get("score", 0.0)
        computed, until = part.counts.scored - part.counts.reused, time.monotonic() - self.started
        self.throughput.add(computed, seconds=score_s, until=until)
        seconds = sum(entry.timings.get(step, 0.0) for step in _WORK)
        unit = UnitTime(part.unit_id, part.counts.candidates, seconds, score_s)
        self.slowest = heapq.nlargest(_MAX_SLOWEST, [*self.slowest, unit], key=lambda each: each.seconds)

    @property
    def remaining(self) -> list[WorkUnit]:
        return [unit for unit in self.units if unit.unit_id not in self.parts]

    def report(self, status: Status, message: str, output: str) -> RunReport:
        parts = [self.parts[unit_id] for unit_id in sorted(self.parts)]
        return RunReport(
            status=status,
            message=message,
            output=output,
            totals=sum((part.counts for part in parts), Counts()),
            units=len(self.units),
            units_published=len(parts),
            units_skipped=self.skipped,
            parts=parts,
            missing=[unit.unit_id for unit in self.remaining],
            attempts=dict(sorted(self.attempts.items())),
            oom_splits=self.oom_splits,
            computed_pairs=self.computed_pairs,
            computed_tokens=self.computed_tokens,
            finished_at=utc_now(),
            wall_s=time.monotonic() - self.started,
            step_s=dict(self.step_s),
            replica_time=replica_time(self.step_s),
            executions=dict(self.executions),
            replicas=self.replicas,
            versions=versions(),
            skipped_files=dict(self.skipped_files),
            warnings=list(self.warnings),
            precision=self.precision,
            job=dict(self.job),
            histograms=self.summary.histograms,
            truncation=self.summary.truncation,
            dead_letter_examples=list(self.summary.examples),
            throughput=replace(self.throughput, pairs=list(self.throughput.pairs)),
            slowest_units=self.slowest,
            reuse=self.reuse,
        )


def versions() -> dict[str, str]:
    """Of this package and the libraries that decide what it computes."""
    return {"reranker-batch": __version__, **{name: _version(name) for name in _LIBRARIES}}
