"""What a run decided about the scores of an earlier output."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ReuseCheck:
    """Reused logits of a sample against those that the model gives now."""

    pairs: int
    max_logit_difference: float | None
    """None where the model gives no number any more."""
    tolerance: float
    is_within: bool
    """As the first replica found it, which decides for the whole run."""

    @classmethod
    def of(cls, pairs: int, difference: float, tolerance: float) -> ReuseCheck:
        return cls(pairs, difference if math.isfinite(difference) else None, tolerance, difference <= tolerance)

    def worst(self, later: ReuseCheck) -> ReuseCheck:
        """With the larger difference of two replicas; the decision stays."""
        if self.max_logit_difference is None or later.max_logit_difference is None:
            return replace(self, max_logit_difference=None)
        largest = max(self.max_logit_difference, later.max_logit_difference)
        return replace(self, max_logit_difference=largest)

    def __str__(self) -> str:
        verb = "differ" if self.is_within else "differ too much"
        seen = "no number" if self.max_logit_difference is None else f"{self.max_logit_difference:.3g}"
        return (
            f"{self.pairs} reused pairs, scored again, {verb}: by {seen} in a logit at most, "
            f"{self.tolerance:.3g} is allowed"
        )


@dataclass(frozen=True)
class ReuseRecord:
    """Which output a run takes scores from. Decided when the run begins; a run that is resumed keeps to it."""

    asked: str
    """`reuse.from` of the config, as an absolute place."""
    source: str | None
    """The output that it named at that time; None where `latest:` named none."""
    memo_digest: str
    """Of the hashes of all its memo parts; empty where nothing is reused."""
    refused: list[str]
    """Why nothing is reused; empty where something is."""
    check: ReuseCheck | None = None
    """None where no pair was scored again: as long as no model is loaded, and with `reuse.verify_sample: 0`."""

    def names(self, asked: str) -> bool:
        """Whether another attempt that asks for this output asks for the same."""
        return asked in (self.asked, self.source)

    def rejected(self, check: ReuseCheck | None) -> ReuseRecord:
        """After a check that has failed."""
        return replace(self, refused=[str(check)], check=check)
