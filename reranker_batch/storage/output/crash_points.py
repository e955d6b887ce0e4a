"""Places where a test can end the process: one after every step that another process could see.

`RERANKER_BATCH_CRASH_AT=part_published:2` ends the process, without any clean-up, when it comes to that place for the
second time. Without the variable nothing happens.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import lru_cache
from typing import Literal, get_args

Point = Literal[
    "lock_taken",
    "manifest_written",
    "plan_written",
    "reuse_written",
    "part_staged",
    "part_verified",
    "dead_letters_published",
    "memo_published",
    "part_published",
    "labels_recorded",
    "labels_dropped_published",
    "labels_published",
    "labels_reported",
    "labels_marked",
    "rankings_compared",
    "report_written",
    "gate_written",
    "success_written",
    "lock_released",
    "deletion_marked",
    "deletion_begun",
    "files_deleted",
    "conversion_begun",
    "conversion_part_published",
    "conversion_task_recorded",
    "conversion_recorded",
    "prepare_begun",
    "prepare_task_done",
    "prepare_missing_written",
    "prepare_recorded",
]
POINTS: tuple[Point, ...] = get_args(Point)
VARIABLE = "RERANKER_BATCH_CRASH_AT"
EXIT_CODE = 137
"""What a shell shows for a process that was killed."""

_times: Counter[str] = Counter()


def reached(point: Point) -> None:
    """Say that this place has been reached."""
    armed = _armed()
    if armed is None or armed[0] != point:
        return
    _times[point] += 1
    if _times[point] == armed[1]:
        os._exit(EXIT_CODE)


@lru_cache(maxsize=1)
def _armed() -> tuple[str, int] | None:
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    name, _, times = value.partition(":")
    if name not in POINTS:
        raise ValueError(f"{VARIABLE}={value!r} names no crash point. Known: {', '.join(POINTS)}.")
    return name, int(times or 1)
