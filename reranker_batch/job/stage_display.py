"""What a person sees while input is prepared."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reranker_batch.printing import complain, steady

OnProgress = Callable[[str, int, int], None]
_LINE_EVERY_S = 5.0
_LABELS = {
    "run": "reading the run",
    "ranges": "reading the run",
    "split": "splitting the run",
    "queries": "splitting the queries",
    "order": "ordering candidates",
    "corpus": "splitting the corpus",
    "texts": "looking up documents",
    "parts": "writing parts",
    "convert": "converting",
}


@contextmanager
def stage_display(*, is_shown: bool) -> Iterator[OnProgress]:
    """A call that takes a stage, how many of its tasks are done and how many there are, and shows that on standard
    error: a live bar on a terminal, a plain line every few seconds elsewhere.
    """
    if not is_shown:
        yield lambda stage, done, total: None
    elif sys.stderr is not None and sys.stderr.isatty():
        with _Bar() as bar:
            yield bar.show
    else:
        yield _Lines().show


class _Bar(Progress):
    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        super().__init__(*columns, console=Console(file=steady(sys.stderr)), transient=True)
        self._at = self.add_task("preparing", total=None)

    def show(self, stage: str, done: int, total: int) -> None:
        self.update(self._at, description=_LABELS.get(stage, stage), completed=done, total=total)


class _Lines:
    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def show(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._said_at >= _LINE_EVERY_S:
            self._said_at = time.monotonic()
            complain(f"preparing: {_LABELS.get(stage, stage)}, {done:,} of {total:,} tasks")
