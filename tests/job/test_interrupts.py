"""Signals end a run; the locks of the threads that work for it are released."""

from __future__ import annotations

import signal
import threading
import time
from types import TracebackType

import pytest

from reranker_batch.job.interrupts import terminate_as_interrupt


class SignalledLock:
    """A lock that is taken; before its taker knows, a signal arrives."""

    def __init__(self, signum: int) -> None:
        self._lock = threading.Lock()
        self._signum = signum
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        self._lock.acquire()
        signal.raise_signal(self._signum)
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_condition_takes_its_lock_comes_a_little_later(signum: int) -> None:
    lock = SignalledLock(signum)
    condition = threading.Condition(lock)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt(), condition:
        time.sleep(60)
    assert lock.acquire(timeout=1)


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with terminate_as_interrupt(), terminate_as_interrupt():
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_handler_of_the_caller_for_ctrl_c_stays() -> None:
    calls: list[int] = []
    before = signal.signal(signal.SIGINT, lambda signum, frame: calls.append(signum))
    try:
        with terminate_as_interrupt():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls == [signal.SIGINT]
