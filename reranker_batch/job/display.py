"""What a person sees while a run goes on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reranker_batch.core.attempts import Pulse
from reranker_batch.core.counts import Counts
from reranker_batch.printing import complain, steady

_LINE_EVERY_S = 5.0
_SETTLED_S = 5.0
"""Seconds of scoring before a pace says anything of what is left."""


class Display(Protocol):
    """Told about every published part and every pulse; shown until closed."""

    def advance(self, counts: Counts) -> None: ...

    def pulse(self, pulse: Pulse) -> None: ...

    def close(self) -> None: ...


def open_display(*, pairs: int, units: int, done_pairs: int = 0, done_units: int = 0) -> Display:
    """A live bar on a terminal, one plain line every few seconds elsewhere. Both write to standard error."""
    tally = Tally(pairs, units, done_pairs, done_units)
    return BarDisplay(tally) if sys.stderr is not None and sys.stderr.isatty() else LineDisplay(tally)


class Tally:
    """Counts of the parts published so far and of the units at work, against what the plan expects.

    The pace is that of all scoring of this attempt, without the time that it took to start, so that it neither jumps
    when a unit ends nor swings from one to the next.
    """

    def __init__(
        self,
        pairs: int,
        units: int,
        done_pairs: int = 0,
        done_units: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pairs, self.units = pairs, units
        self.done_units = done_units
        self.new_tokens = self.dead_letters = 0
        self.phase = "starting"
        self._clock = clock
        self._before = self._published = self._most = done_pairs
        self._scored = 0
        self._tokens_of = 0
        self._scoring_since: float | None = None

    def add(self, counts: Counts) -> None:
        self.done_units += 1
        self._published += counts.candidates
        self._tokens_of += counts.scored
        self.new_tokens += counts.model_tokens
        self.dead_letters += counts.num_dead_letters
        self._begin()
        self._most = max(self._most, self._published)

    def hear(self, pulse: Pulse) -> None:
        self.phase = pulse.phase
        if pulse.phase == "scoring":
            self._begin()
        self._most = max(self._most, self._published + pulse.scored)

    def _begin(self) -> None:
        self._scoring_since = self._clock() if self._scoring_since is None else self._scoring_since

    @property
    def done_pairs(self) -> int:
        """Of published parts and of the units at work; it never falls, also where a unit is scored again."""
        return self._published if self.done_units == self.units else self._most

    @property
    def all_pairs(self) -> int:
        """What the plan expects, which counts a query without candidates as one pair, and in the end what came."""
        return self.done_pairs if self.done_units == self.units else max(self.pairs, self.done_pairs)

    def rates(self) -> tuple[float, float]:
        """Pairs and tokens a second since scoring began."""
        if self._scoring_since is None:
            return 0.0, 0.0
        pace = (self.done_pairs - self._before) / max(self._clock() - self._scoring_since, 1e-9)
        return pace, pace * self.new_tokens / max(self._tokens_of, 1)

    def left_s(self) -> float | None:
        """Seconds left at the pace so far; None before there is one."""
        pace, _ = self.rates()
        is_settled = self._scoring_since is not None and self._clock() - self._scoring_since >= _SETTLED_S
        return (self.all_pairs - self.done_pairs) / pace if pace and is_settled else None

    def detail(self) -> str:
        pairs_per_s, tokens_per_s = self.rates()
        tokens = f"{tokens_per_s:,.0f} tokens/s · " if tokens_per_s else ""
        return (
            f"{pairs_per_s:,.0f} pairs/s · {tokens}"
            f"{self.done_units:,} of {self.units:,} units · {self.dead_letters:,} dead letters · {self._left()}"
        )

    def line(self) -> str:
        return f"{self.done_pairs:,} of {self.all_pairs:,} pairs · {self.detail()}"

    def _left(self) -> str:
        if self.done_units == self.units:
            return "done"
        left = self.left_s()
        return self.phase if left is None else f"{timedelta(seconds=round(left))} left"


class BarDisplay:
    """A bar that rich redraws."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._bar = Progress(
            TextColumn("pairs"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=Console(file=steady(sys.stderr)),
        )
        self._task = self._bar.add_task("", total=tally.pairs, completed=tally.done_pairs, detail=tally.detail())
        self._bar.start()

    def advance(self, counts: Counts) -> None:
        self._tally.add(counts)
        self._redraw()

    def pulse(self, pulse: Pulse) -> None:
        self._tally.hear(pulse)
        self._redraw()

    def close(self) -> None:
        self._bar.stop()

    def _redraw(self) -> None:
        tally = self._tally
        self._bar.update(self._task, completed=tally.done_pairs, total=tally.all_pairs, detail=tally.detail())


class LineDisplay:
    """Plain lines for logs, from a thread of its own, so that they come as long as the run goes on."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._print_lines, daemon=True)
        self._thread.start()

    def advance(self, counts: Counts) -> None:
        self._tally.add(counts)

    def pulse(self, pulse: Pulse) -> None:
        self._tally.hear(pulse)

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        complain(self._tally.line())

    def _print_lines(self) -> None:
        while not self._is_closed.wait(_LINE_EVERY_S):
            complain(self._tally.line())


class NoDisplay:
    """For callers that show nothing."""

    def advance(self, counts: Counts) -> None:
        return

    def pulse(self, pulse: Pulse) -> None:
        return

    def close(self) -> None:
        return
