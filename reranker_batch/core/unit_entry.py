"""A unit whose part is published: the part, and how it was computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from reranker_batch.core.precision import Precision
from reranker_batch.core.report import PartEntry
from reranker_batch.core.unit_summary import UnitSummary


@dataclass(frozen=True)
class UnitEntry:
    """A published part, and how it came about in this attempt at the run."""

    part: PartEntry
    timings: Mapping[str, float]
    """Seconds of each step."""
    oom_splits: int
    execution: str
    precision: Precision | None = None
    summary: UnitSummary = field(default=UnitSummary())

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> UnitEntry:
        values = json.loads(text)
        precision = values.pop("precision")
        return cls(
            **values
            | {"part": PartEntry.from_dict(values["part"]), "summary": UnitSummary.from_dict(values["summary"])},
            precision=None if precision is None else Precision(**precision),
        )
