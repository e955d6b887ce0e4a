"""SIGTERM ends a run as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt. Does nothing outside the main thread, where signals are not ours.

    Ray puts a handler of its own in place when it starts, so this is entered again after that.
    """

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    signal.siginterrupt(signal.SIGINT, True)  # polars asks for calls that are taken up again, which nothing then ends
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
