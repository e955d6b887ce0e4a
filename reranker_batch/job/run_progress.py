"""What one attempt at a run has seen so far, and its report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from reranker_batch.core.precision import Precision
from reranker_batch.core.report import PartEntry, RunReport, Status, replica_time, totals_of
from reranker_batch.core.units import WorkUnit
from reranker_batch.storage.parts import PublishedPart
from reranker_batch.version import __version__

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
    oom_splits: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    precision: Precision | None = None
    attempts: dict[str, int] = field(default_factory=dict)
    replicas: int = 0
    started: float = field(default_factory=time.monotonic)
    skipped_files: Mapping[str, str] = field(default_factory=dict)

    def skip(self, part: PublishedPart) -> None:
        record = part.record
        self.parts[record.unit_id] = PartEntry(
            record.unit_id, part.num_rows, part.size_bytes, part.sha256, record.counts
        )
        self.skipped += 1

    def add(self, entry: Mapping[str, Any]) -> None:
        names = ("unit_id", "num_rows", "size_bytes", "sha256", "counts")
        self.parts[entry["unit_id"]] = PartEntry(**{name: entry[name] for name in names})
        self.computed_pairs += entry["counts"]["scored"]
        self.computed_tokens += entry["counts"]["model_tokens"]
        self.oom_splits += entry["oom_splits"]
        self.ways[entry["way"]] += 1
        self.step_s.update(entry["timings"])
        if found := entry["precision"]:
            self.precision = (self.precision or Precision()).add(Precision(**found))

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
            missing=[unit.unit_id for unit in self.remaining],
            attempts=dict(sorted(self.attempts.items())),
            oom_splits=self.oom_splits,
            computed_pairs=self.computed_pairs,
            computed_tokens=self.computed_tokens,
            wall_s=time.monotonic() - self.started,
            step_s=dict(self.step_s),
            replica_time=replica_time(self.step_s),
            ways=dict(self.ways),
            replicas=self.replicas,
            versions=versions(),
            skipped_files=dict(self.skipped_files),
            precision=None if self.precision is None else self.precision.to_dict(),
        )


def versions() -> dict[str, str]:
    """Of this package and the libraries that decide what it computes."""
    return {"reranker-batch": __version__, **{name: version(name) for name in _LIBRARIES}}
