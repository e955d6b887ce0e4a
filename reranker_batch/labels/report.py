"""What a finished `label` tells: what became of every candidate, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from pydantic import TypeAdapter

from reranker_batch.core.report import utc_now
from reranker_batch.labels.reasons import NEGATIVES, POSITIVES, Fate
from reranker_batch.labels.record import REPORT, LabelRecord
from reranker_batch.labels.summary import GRID_REACH, Summary
from reranker_batch.storage.files.documents import parsed, serialized, typed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.run_state import RunState

LabelStatus = Literal["complete"]
_OF_AN_ATTEMPT = ("output", "parts_made", "wall_s", "finished_at")


@dataclass(frozen=True)
class Attempt:
    """What is not the same in every attempt."""

    parts_made: int
    wall_s: float


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
    hashes: dict[str, dict[str, str]]
    """Of the files of each unit, by unit and folder."""
    parts_made: int
    wall_s: float
    finished_at: str

    @classmethod
    def of(
        cls,
        output: str,
        record: LabelRecord,
        summary: Summary,
        hashes: dict[str, dict[str, str]],
        attempt: Attempt,
    ) -> LabelReport:
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
            hashes=hashes,
            parts_made=attempt.parts_made,
            wall_s=attempt.wall_s,
            finished_at=utc_now(),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def differing(self, other: LabelReport) -> list[str]:
        """The fields that are not those of another report of the same labels, whenever and by whom both were made."""
        one, two = (parsed(serialized(report.to_dict())) for report in (self, other))
        return [name for name in one if name not in _OF_AN_ATTEMPT and one[name] != two[name]]

    @property
    def decisions(self) -> dict[str, int]:
        """Candidates by decision or reason, those that occur."""
        kept = {
            Fate.POSITIVE.code: self.positives - self.relabelled,
            Fate.RELABELLED.code: self.relabelled,
            Fate.NEGATIVE.code: self.negatives - self.kept_false_negatives,
            Fate.KEPT_FALSE_NEGATIVE.code: self.kept_false_negatives,
        }
        return {code: number for code, number in kept.items() if number} | self.dropped

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


_REPORT = TypeAdapter(LabelReport)
_WRITTEN_AGAIN = "The `label` command of these labels writes it again."


def read_report(output: Folder) -> LabelReport | None:
    """The report of labels, None where there is none. Raises CommitError where it is not what this program writes."""
    state = RunState(output)
    values = state.read(REPORT)
    return None if values is None else typed(_REPORT, values, state.path_of(REPORT), remedy=_WRITTEN_AGAIN)


def _agreements(teachers: Sequence[str], summary: Summary) -> list[dict[str, Any]]:
    return [
        {"teachers": list(pair), "queries": one.queries, "tau": one.tau, "reach": GRID_REACH, "grid": list(one.grid)}
        for pair, one in zip(combinations(teachers, 2), summary.agreements, strict=True)
    ]


def scale_text(scale: Mapping[str, float]) -> str:
    """The formula of a teacher's score."""
    return f"(logit - {scale['offset']:.4g}) / {scale['divisor']:.4g}"
