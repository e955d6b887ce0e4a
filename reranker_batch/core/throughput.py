"""How many pairs were computed when, in a bounded number of equal intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_INTERVALS = 60


@dataclass
class Throughput:
    """Pairs by time since the start. Where the intervals become too many, two neighbours become one."""

    interval_s: float = 1.0
    pairs: list[int] = field(default_factory=list)

    def add(self, pairs: int, *, seconds: float, until: float) -> None:
        """Spread `pairs` evenly over the `seconds` before the time `until`."""
        until = max(until, 0.0)
        since = min(max(until - seconds, 0.0), until)
        while until >= self.interval_s * MAX_INTERVALS:
            self._widen()
        first, last = int(since / self.interval_s), int(until / self.interval_s)
        self.pairs += [0] * (last + 1 - len(self.pairs))
        given = 0
        for at in range(first, last + 1):
            stop = min((at + 1) * self.interval_s, until)
            so_far = pairs if at == last else round(pairs * (stop - since) / (until - since))
            self.pairs[at] += so_far - given
            given = so_far

    def _widen(self) -> None:
        self.interval_s *= 2
        self.pairs = [sum(self.pairs[at : at + 2]) for at in range(0, len(self.pairs), 2)]
