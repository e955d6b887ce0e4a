"""What a finished `label` tells: what became of every candidate, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from reranker_batch.core.report import utc_now
from reranker_batch.labels.reasons import NEGATIVES, POSITIVES, Fate
from reranker_batch.labels.record import LabelRecord
from reranker_batch.labels.summary import GRID_REACH, Summary

LabelStatus = Literal["complete"]


@dataclass(frozen=True)
class LabelReport:
    """`run/labels_report.json`. Counts cover all parts; `parts_made` are those of this attempt."""

    status: LabelStatus
    output: str
    queries: int
    labelled_queries: int
    candidates: int
    positives: int
    relabelled: int
    negatives: int
    kept_false_negatives: int
    dropped: dict[str, int]
    """Candidates by reason. With positives and negatives they are all candidates."""
    margins: dict[str, Any]
    """Of the negatives: how far their scores are below the lowest positive of their query."""
    agreements: list[dict[str, Any]]
    """Of each two teachers: mean of Kendall's tau over the queries, and a grid of their scores."""
    scales: dict[str, dict[str, float]]
    """Of each teacher: a score is `(logit - offset) / divisor`."""
    settings: dict[str, Any]
    fingerprint: str
    parts: int
    parts_made: int
    wall_s: float
    finished_at: str

    @classmethod
    def of(cls, output: str, record: LabelRecord, summary: Summary, *, parts_made: int, wall_s: float) -> LabelReport:
        return cls(
            status="complete",
            output=output,
            queries=summary.queries,
            labelled_queries=summary.labelled,
            candidates=summary.candidates,
            positives=summary.number(*POSITIVES),
            relabelled=summary.number(Fate.RELABELLED),
            negatives=summary.number(*NEGATIVES),
            kept_false_negatives=summary.number(Fate.KEPT_FALSE_NEGATIVE),
            dropped=summary.dropped,
            margins=asdict(summary.margins.histogram()),
            agreements=_agreements(record.teachers, summary),
            scales={name: asdict(scale) for name, scale in zip(record.teachers, record.scales, strict=True)},
            settings=record.settings,
            fingerprint=record.fingerprint,
            parts=len(record.units),
            parts_made=parts_made,
            wall_s=wall_s,
            finished_at=utc_now(),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def rows_to_show(self) -> list[tuple[str, str]]:
        """What a person wants to know at the end."""
        dropped = ", ".join(f"{number:,} {reason}" for reason, number in self.dropped.items()) or "none"
        taus = ", ".join(
            f"{' and '.join(one['teachers'])} {one['tau']:.2f}" for one in self.agreements if one["tau"] is not None
        )
        return [
            ("labels", self.output),
            ("queries", f"{self.labelled_queries:,} with labels of {self.queries:,}"),
            ("candidates", f"{self.candidates:,}"),
            ("positives", f"{self.positives:,} ({self.relabelled:,} relabelled)"),
            ("negatives", f"{self.negatives:,}"),
            ("dropped", dropped),
            *([("agreement (tau)", taus)] if taus else []),
            ("parts", f"{self.parts:,}, {self.parts_made:,} made by this command"),
            ("time", f"{self.wall_s:,.1f} s"),
        ]


def _agreements(teachers: Sequence[str], summary: Summary) -> list[dict[str, Any]]:
    return [
        {"teachers": list(pair), "queries": one.queries, "tau": one.tau, "reach": GRID_REACH, "grid": list(one.grid)}
        for pair, one in zip(combinations(teachers, 2), summary.agreements, strict=True)
    ]


def scale_text(scale: Mapping[str, float]) -> str:
    """The formula of a teacher's score."""
    return f"(logit - {scale['offset']:.4g}) / {scale['divisor']:.4g}"
