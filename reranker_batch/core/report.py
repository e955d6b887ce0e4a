"""The report of a run: its status, its parts and the sums of their counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from reranker_batch.core.counts import Counts
from reranker_batch.core.distribution import Histogram
from reranker_batch.core.findings import Findings
from reranker_batch.core.gates import GateResult
from reranker_batch.core.precision import Precision
from reranker_batch.core.reuse import ReuseRecord
from reranker_batch.core.throughput import Throughput
from reranker_batch.core.unit_summary import DeadLetterExample

Status = Literal["complete", "too_many_failed", "gated", "failed", "interrupted"]
EXIT_CODES: dict[Status, int] = {"complete": 0, "failed": 1, "too_many_failed": 3, "gated": 4, "interrupted": 130}


def utc_now() -> str:
    """The time as a record has it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def utc_time(text: str) -> datetime:
    """The time that `utc_now` wrote. Raises ValueError for another text."""
    time = datetime.fromisoformat(text)
    if time.utcoffset() != timedelta():
        raise ValueError(f"{text!r} is no time in UTC")
    return time


def replica_time(step_s: Mapping[str, float]) -> dict[str, float]:
    """Shares of a replica's time: computing, scoring the sample again, waiting for a unit, and for Ray to move it."""
    seconds = {name: step_s.get(name, 0.0) for name in ("score", "rescore", "wait_for_input", "transfer")}
    whole = sum(seconds.values())
    return {name: value / whole for name, value in seconds.items()} if whole else {}


@dataclass(frozen=True, slots=True)
class MemoFile:
    """The memo of a unit, as its part and the report record it."""

    num_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PartEntry:
    """A published part as the report lists it; `verify` holds the file against this."""

    unit_id: str
    num_rows: int
    size_bytes: int
    sha256: str
    counts: Counts
    memo: MemoFile | None = None
    """None where `output.memo` is false."""

    def to_dict(self) -> dict[str, Any]:
        memo = None if self.memo is None else asdict(self.memo)
        return {name: getattr(self, name) for name in self.__slots__} | {"counts": self.counts.to_dict(), "memo": memo}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PartEntry:
        memo = None if values["memo"] is None else MemoFile(**values["memo"])
        return cls(**{**values, "counts": Counts.from_dict(values["counts"]), "memo": memo})


@dataclass(frozen=True)
class UnitTime:
    """How long a unit took, waiting left out."""

    unit_id: str
    pairs: int
    seconds: float
    score_s: float


def job_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader of a report wants to know of the job: model, input, limits and engine, from its manifest."""
    settings, config, model = manifest["settings"], manifest.get("config", {}), manifest.get("model", {})
    scored = settings["scoring"].get("model", {})
    return {
        "fingerprint": manifest["fingerprint"],
        "engine": manifest.get("engine"),
        "model": {**{name: model.get(name) for name in ("name", "revision", "recipe")}, "dtype": scored.get("dtype")},
        "input": config.get("input", {}).get("path"),
        "limits": {
            "profile": config.get("limits", {}).get("profile"),
            **settings["scoring"].get("limits", {}),
            **settings["limits"],
        },
        "top_n": settings["output"].get("top_n"),
    }


@dataclass(frozen=True)
class RunReport:
    """The record of a run, also of one that failed. Counts cover all published units, `computed_*` this attempt."""

    status: Status
    message: str
    output: str
    totals: Counts
    units: int
    units_published: int
    units_skipped: int
    parts: list[PartEntry]
    missing: list[str]
    """Units without a part."""
    attempts: dict[str, int]
    """Of units that were begun more than once."""
    oom_splits: int
    computed_pairs: int
    computed_tokens: int
    finished_at: str
    """When the attempt that made this report ended, see `utc_now`."""
    wall_s: float
    step_s: dict[str, float]
    """Seconds of each step, added up over the units."""
    replica_time: dict[str, float]
    """Shares of the replicas' time from their first unit to their last."""
    executions: dict[str, int]
    """How the logits were computed, such as "packed in float32 on cpu", with the number of units."""
    replicas: int
    versions: dict[str, str]
    warnings: list[str] = field(default_factory=list)
    """Of the plan: files that were left out, and columns that may have been meant."""
    job: dict[str, Any] = field(default_factory=dict)
    """What was computed with what; see `job_facts`."""
    histograms: dict[str, Histogram] = field(default_factory=dict)
    """Of the scored pairs of all published units."""
    truncation: dict[str, int] = field(default_factory=dict)
    """Scored pairs by what was too long; a pair may count several times."""
    dead_letter_examples: list[DeadLetterExample] = field(default_factory=list)
    throughput: Throughput = field(default_factory=Throughput)
    """Of this attempt."""
    slowest_units: list[UnitTime] = field(default_factory=list)
    """Of this attempt, the slowest first."""
    skipped_files: dict[str, str] = field(default_factory=dict)
    """Files of the input that could not be used and were left out, each with what is wrong."""
    precision: Precision | None = None
    """From a second scoring of a few pairs of this attempt, in float32 and one pair at a time."""
    movement_first_stage: Mapping[str, Any] | None = None
    """What moved between the order in which candidates came and the result; None until all units are published."""
    movement: Mapping[str, Any] | None = None
    """What moved since an earlier output."""
    metrics: Mapping[str, Any] | None = None
    """By relevance judgments."""
    findings_digest: str | None = None
    """Of the three above, and the parts that they were computed from."""
    gates: list[GateResult] = field(default_factory=list)
    """Limits that the finished output must keep."""

    reuse: ReuseRecord | None = None
    """None where `reuse.from` is null."""

    @property
    def rescored(self) -> int:
        """Scored pairs whose score is of this run."""
        return self.totals.scored - self.totals.reused

    @property
    def reused_share(self) -> float | None:
        """Of all scored pairs; None where there are none, or `reuse.from` is null."""
        return self.totals.reused / self.totals.scored if self.totals.scored and self.reuse is not None else None

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.status]

    @property
    def reasons(self) -> list[str]:
        """Why the output must be accepted before it is served."""
        return [gate.message for gate in self.gates if not gate.is_met]

    @property
    def findings(self) -> Findings | None:
        """None where there are none, or where they are not those of these parts."""
        if self.movement_first_stage is None:
            return None
        findings = Findings(self.movement_first_stage, self.movement, self.metrics)
        return findings if findings.digest(part.sha256 for part in self.parts) == self.findings_digest else None

    def has_same_results(self, other: RunReport | None) -> bool:
        """Whether both tell of the same parts with the same status, whatever attempt made them."""
        of_parts = ("status", "totals", "units", "units_published", "parts", "missing", "skipped_files")
        of_rankings = ("movement_first_stage", "movement", "metrics", "findings_digest", "gates")
        of_pairs = ("histograms", "truncation", "dead_letter_examples")
        names = (*of_parts, *of_pairs, *of_rankings)
        return other is not None and all(getattr(self, name) == getattr(other, name) for name in names)

    def to_dict(self) -> dict[str, Any]:
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "totals": self.totals.to_dict(),
            "parts": [part.to_dict() for part in self.parts],
            "histograms": {name: asdict(histogram) for name, histogram in self.histograms.items()},
            "dead_letter_examples": [asdict(example) for example in self.dead_letter_examples],
            "throughput": asdict(self.throughput),
            "slowest_units": [asdict(unit) for unit in self.slowest_units],
            "precision": None if self.precision is None else self.precision.to_dict(),
            "gates": [asdict(gate) for gate in self.gates],
            "reuse": None if self.reuse is None else asdict(self.reuse),
            "reused": self.totals.reused,
            "rescored": self.rescored,
            "reused_share": self.reused_share,
            "reuse_check": None if self.reuse is None or self.reuse.check is None else asdict(self.reuse.check),
            "exit_code": self.exit_code,
        }
