"""Progress of a run: published parts, counts, timings, and the report built from them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from reranker_batch.core.counts import Counts
from reranker_batch.core.precision import Precision
from reranker_batch.core.report import PartEntry, RunReport, Status, replica_time, utc_now
from reranker_batch.core.unit_entry import UnitEntry
from reranker_batch.core.units import WorkUnit
from reranker_batch.storage.output.parts import PublishedPart
from reranker_batch.version import __version__

_LIBRARIES = ("ray", "torch", "transformers", "tokenizers", "pyarrow", "polars")


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

    def skip(self, part: PublishedPart) -> None:
        self.parts[part.record.unit_id] = part.entry()
        self.skipped += 1

    def add(self, entry: UnitEntry) -> None:
        self.parts[entry.part.unit_id] = entry.part
        self.computed_pairs += entry.part.counts.scored
        self.computed_tokens += entry.part.counts.model_tokens
        self.oom_splits += entry.oom_splits
        self.executions[entry.execution] += 1
        self.step_s.update(entry.timings)
        if entry.precision is not None:
            self.precision = (self.precision or Precision()).add(entry.precision)

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
        )


def versions() -> dict[str, str]:
    """Of this package and the libraries that decide what it computes."""
    return {"reranker-batch": __version__, **{name: version(name) for name in _LIBRARIES}}
