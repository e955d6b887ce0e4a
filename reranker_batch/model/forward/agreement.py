"""Whether a forward pass gives the expected logits for the trial pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.pairs import FloatArray
from reranker_batch.model.forward.padded import Forward

_EXACT_ABSOLUTE = _EXACT_RELATIVE = 1e-4
_NOISE_FACTOR = 3
_LAST_BITS = 2
"""Last bits by which a logit of half precision may always differ."""


@dataclass(frozen=True)
class Expected:
    """Expected logits of the trial pairs, and the differences allowed: for each, and on average.

    The average is the root mean square, which says more about noise than the worst of a few pairs.
    """

    logits: FloatArray
    each: FloatArray
    average: float

    @classmethod
    def exactly(cls, logits: FloatArray) -> Expected:
        """These logits, within the rounding of float32."""
        return cls(logits, np.float32(_EXACT_ABSOLUTE) + np.float32(_EXACT_RELATIVE) * np.abs(logits), np.inf)

    @classmethod
    def in_half(cls, exact: FloatArray, plain: FloatArray, dtype: torch.dtype) -> Expected:
        """On average at most three times as far from float32 as the plain pass in half precision.

        A single logit may be three times as far again. `exact` is the plain pass in float32, `plain` the one in half
        precision; where the plain pass overflows, every other must overflow too.
        """
        is_finite = np.isfinite(plain)
        noise = np.abs(plain - exact)[is_finite]
        last_bits = np.float32(_LAST_BITS * torch.finfo(dtype).eps) * np.abs(exact)
        wanted = exact.copy()
        wanted[~is_finite] = np.nan
        average = _NOISE_FACTOR * _average(noise) + _average(last_bits[is_finite])
        return cls(wanted, np.float32(_NOISE_FACTOR) * average + last_bits, average)

    def fault(self, logits: FloatArray, *, what: str = "Trial pair {} has the logit") -> str | None:
        """The trial pair with the largest difference, if that is too large; `what` says what numbers these are."""
        with np.errstate(invalid="ignore"):
            off = np.abs(logits - self.logits)
        is_near = (off <= self.each) | ~(np.isfinite(logits) | np.isfinite(self.logits))
        if is_near.all() and _average(off[np.isfinite(off)]) <= self.average:
            return None
        worst = int(np.argmax(np.nan_to_num(off - self.each, nan=np.inf)))
        return f"{what.format(worst)} {logits[worst]:.6g} instead of {self.logits[worst]:.6g}."


def _average(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if len(values) else 0.0


def trial_logits(forward: Forward, trial: TokenInputs) -> FloatArray:
    """Logits of the trial pairs, in two or more micro-batches, so that pairs of different lengths share one."""
    logits = np.full(len(trial), np.nan, dtype=np.float32)
    budget = max(int(trial.costs.max()), int(trial.costs.sum()) // 2)
    with torch.inference_mode():
        for rows in forward.micro_batches(trial, max_batch_tokens=budget):
            logits[rows] = forward(trial, rows).float().cpu().numpy()
    return logits
