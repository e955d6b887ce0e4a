"""What a person sees while a run goes on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LINE_EVERY_S = 5.0


class Display(Protocol):
    """Told about every published part; shown until closed."""

    def advance(self, counts: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def open_display(*, pairs: int, units: int, done_pairs: int = 0, done_units: int = 0) -> Display:
    """A live bar on a terminal, one plain line every few seconds elsewhere. Both write to standard error."""
    tally = Tally(pairs, units, done_pairs, done_units)
    return BarDisplay(tally) if sys.stderr.isatty() else LineDisplay(tally)


class Tally:
    """Counts of the parts published so far, against what the plan expects."""

    def __init__(self, pairs: int, units: int, done_pairs: int, done_units: int) -> None:
        self.pairs, self.units = pairs, units
        self.done_pairs, self.done_units = done_pairs, done_units
        self.new_pairs = self.new_tokens = self.failed = 0
        self._started = time.monotonic()

    def add(self, counts: Mapping[str, Any]) -> None:
        self.done_units += 1
        self.done_pairs += counts["candidates"]
        self.new_pairs += counts["scored"]
        self.new_tokens += counts["model_tokens"]
        self.failed += sum(counts["dead_letters"].values())

    @property
    def all_pairs(self) -> int:
        """What the plan expects, which counts a query without candidates as one pair, and in the end what came."""
        return self.done_pairs if self.done_units == self.units else max(self.pairs, self.done_pairs)

    def rates(self) -> tuple[float, float]:
        """Pairs and tokens a second since the run began."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        return self.new_pairs / elapsed, self.new_tokens / elapsed

    def left_s(self) -> float | None:
        """Seconds left at the pace so far; None before there is one."""
        pace, _ = self.rates()
        return (self.all_pairs - self.done_pairs) / pace if pace else None

    def line(self) -> str:
        pairs_per_s, tokens_per_s = self.rates()
        left = self.left_s()
        return (
            f"{self.done_pairs:,} of {self.all_pairs:,} pairs · "
            f"{pairs_per_s:,.0f} pairs/s · {tokens_per_s:,.0f} tokens/s · "
            f"{self.done_units} of {self.units} units · {self.failed} failed · "
            f"{'starting' if left is None else f'{left:,.0f} s left'}"
        )


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
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=tally.pairs, completed=tally.done_pairs, detail="starting")
        self._bar.start()

    def advance(self, counts: Mapping[str, Any]) -> None:
        self._tally.add(counts)
        pairs_per_s, tokens_per_s = self._tally.rates()
        detail = (
            f"{pairs_per_s:,.0f} pairs/s · {tokens_per_s:,.0f} tokens/s · "
            f"{self._tally.done_units}/{self._tally.units} units · {self._tally.failed} failed"
        )
        self._bar.update(self._task, completed=self._tally.done_pairs, total=self._tally.all_pairs, detail=detail)

    def close(self) -> None:
        self._bar.stop()


class LineDisplay:
    """Plain lines for logs, from a thread of its own, so that a slow unit does not look like a standstill."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._print_lines, daemon=True)
        self._thread.start()

    def advance(self, counts: Mapping[str, Any]) -> None:
        self._tally.add(counts)

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        print(self._tally.line(), file=sys.stderr, flush=True)

    def _print_lines(self) -> None:
        while not self._is_closed.wait(_LINE_EVERY_S):
            print(self._tally.line(), file=sys.stderr, flush=True)


class NoDisplay:
    """For callers that show nothing."""

    def advance(self, counts: Mapping[str, Any]) -> None:
        return

    def close(self) -> None:
        return
