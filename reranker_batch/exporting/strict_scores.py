"""Scores that no reader can reorder."""

from __future__ import annotations

import numpy as np

from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import LongArray

_LOWEST = -0x7F7FFFFF
"""Place of the lowest finite float32, counted in steps from 0."""
_FURTHER = 1 << 34
"""More than any two places of one list differ, so that one list after the other can be seen as one."""


def strictly_decreasing(scores: FloatArray, lengths: LongArray) -> FloatArray:
    """Float32 scores of lists of `lengths`, best first, in which each is lower than the one before it in its list.

    A score that is lower already stays as it is; one that is not becomes the next float32 below. Evaluation tools sort
    by score, many of them in float32, and each has its own order for ties: trec_eval puts the higher document id first.
    """
    group = np.repeat(np.arange(len(lengths)), lengths)
    in_list = np.arange(len(scores)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    below = np.arange(len(scores)) - group * _FURTHER
    steps = np.minimum.accumulate(_steps(scores) + below) - below
    left_in_list = np.repeat(lengths, lengths) - 1 - in_list
    return _floats(np.maximum(steps, _LOWEST + left_in_list))


def _steps(scores: FloatArray) -> LongArray:
    """How many float32 lie between 0 and each score; 0 and -0 are one."""
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _floats(steps: LongArray) -> FloatArray:
    bits = np.where(steps < 0, -steps | 0x80000000, steps).astype(np.uint32)
    return bits.view(np.float32)
