"""SIGTERM ends a run as Ctrl-C does, and neither leaves a lock behind that nobody releases."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_RETRY_AFTER_S = 0.01


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt. Does nothing outside the main thread, where signals are not ours.

    Ray puts a handler of its own in place when it starts, so this is entered again after that. A handler that the
    caller has for SIGINT stays.
    """
    is_default = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _interrupt)
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, *[signal.SIGINT] * is_default)}
        for number in before:
            signal.signal(number, _interrupt)
    except ValueError:
        yield
        return
    signal.siginterrupt(signal.SIGINT, True)  # polars asks for calls that are taken up again, which nothing then ends
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise, but not where `with condition:` has the lock and does not know it yet: no `__exit__` would release it.

    Thread pools take such locks each time work is handed to them.
    """
    if _is_taking_a_lock(frame):
        _thread.start_new_thread(_send_again, (signum,))
    else:
        raise KeyboardInterrupt


def _is_taking_a_lock(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name == "__enter__":
        if frame.f_code is threading.Condition.__enter__.__code__:
            return True
        frame = frame.f_back
    return False


def _send_again(signum: int) -> None:
    time.sleep(_RETRY_AFTER_S)
    os.kill(os.getpid(), signum)
