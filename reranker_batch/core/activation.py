"""How a logit becomes a relevance score."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from reranker_batch.core.pairs import FloatArray


@dataclass(frozen=True)
class Activation:
    """`sigmoid(scale * (logit - shift))`, or `(1 + logit) / 2` of a logit that is a cosine.

    `str` gives the formula; `to_dict` is what the manifest records of it.
    """

    kind: Literal["sigmoid", "cosine"] = "sigmoid"
    shift: float = 0.0
    scale: float = 1.0

    def __str__(self) -> str:
        if self.kind == "cosine":
            return "(1 + logit) / 2"
        shifted = f"logit - {self.shift:g}" if self.shift else "logit"
        if self.scale == 1:
            return f"{self.kind}({shifted})"
        return f"{self.kind}({self.scale:g} * {f'({shifted})' if self.shift else shifted})"

    def scores(self, logits: FloatArray) -> FloatArray:
        """Relevance scores, always in 0..1, and never out of order with the logits.

        Computed in float64 and rounded once, so that two different logits never swap places.
        """
        if self.kind == "cosine":  # rounding may leave a cosine a little outside -1..1
            return np.clip((1.0 + logits.astype(np.float64)) / 2.0, 0.0, 1.0).astype(np.float32)
        shifted = (logits.astype(np.float64) - self.shift) * self.scale
        with np.errstate(over="ignore"):
            return (1.0 / (1.0 + np.exp(-shifted))).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
