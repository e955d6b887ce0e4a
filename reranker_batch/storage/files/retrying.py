"""Try again what failed for a reason that can pass."""

from __future__ import annotations

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from reranker_batch.errors import first_line

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ATTEMPTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_PASSING_NUMBERS = {
    errno.EIO,
    errno.EAGAIN,
    errno.EINTR,
    errno.EBUSY,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.EPIPE,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETRESET,
}
_LASTING_TYPES = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_PASSING_WORDS = re.compile(
    r"(HTTP|status)\D{0,20}(429|5\d\d)|slow.?down|timed?.?out|connection (was )?(reset|refused|closed)|"
    r"network_connection|internal_failure|service.unavailable|broken pipe|temporar",
    re.IGNORECASE,
)


def retried(call: Callable[[], Result], what: str) -> Result:
    """Call until it succeeds, at most `ATTEMPTS` times with growing waits; each failure is counted in the log.

    `call` must be safe to repeat. Only errors that can pass are tried again: time-outs, broken connections, EIO
    and what a store answers when it is busy. All others, a full disk among them, are raised at once, and the last
    one is raised as it came, for the caller to name the file.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
            wait_s = _wait_s(attempt)
            logger.warning(
                "%s failed (attempt %d of %d), again in %.1f s: %s", what, attempt, ATTEMPTS, wait_s, first_line(error)
            )
        time.sleep(wait_s)
    return call()


def is_passing(error: BaseException | None) -> bool:
    """Whether the error, or the one it was made from, may be gone on the next attempt."""
    while error is not None:
        if isinstance(error, _LASTING_TYPES):
            return False
        if isinstance(error, TimeoutError | ConnectionError):
            return True
        if isinstance(error, OSError):
            number = error.errno
            return number in _PASSING_NUMBERS if number is not None else _PASSING_WORDS.search(str(error)) is not None
        error = error.__cause__
    return False


def _wait_s(attempt: int) -> float:
    """Doubled each time, and never the same for two processes that failed together."""
    return float(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5))
