"""Scores that vendors and reference tests have published, by the last part of a model's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reranker_batch.core.activation import Activation
from reranker_batch.core.pairs import FloatArray

RED_PLANET = tuple(
    ("Which planet is known as the Red Planet?", document)
    for document in (
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    )
)
"""The pairs of sentence-transformers' tests of published cross-encoders."""

_BFLOAT16_SCORE, _BFLOAT16_LOGIT = 0.02, 0.06
"""Most values were published from bfloat16, so that the last of its eight bits may differ."""


@dataclass(frozen=True)
class Golden:
    """Published values for `RED_PLANET`: logits, or what `activation` makes of them."""

    values: tuple[float, ...]
    activation: Activation | None
    tolerance: float

    def differences(self, logits: FloatArray) -> FloatArray:
        """Distance of each pair's value from the published one."""
        values = logits if self.activation is None else self.activation.scores(logits)
        distances: FloatArray = np.abs(values - np.array(self.values)).astype(np.float32)
        return distances


def _scores(*values: float, scale: float = 1.0) -> Golden:
    return Golden(values, Activation(scale=scale), _BFLOAT16_SCORE)


def _logits(*values: float, tolerance: float = _BFLOAT16_LOGIT) -> Golden:
    return Golden(values, None, tolerance)


_QWEN3 = _logits(-3.109297752380371, 7.120389938354492, -0.3787546157836914, 3.541637420654297, tolerance=1e-3)

GOLDEN: Mapping[str, Golden] = {
    "bge-reranker-v2-m3": _scores(0.01855, 1.0, 0.78906, 0.98828),
    "bge-reranker-base": _scores(0.87891, 0.99609, 0.99609, 0.05029),
    "bge-reranker-large": _scores(0.69922, 1.0, 0.97266, 0.81641),
    "gte-multilingual-reranker-base": _scores(0.38672, 0.85156, 0.70312, 0.65234),
    "gte-reranker-modernbert-base": _scores(0.80859, 0.95312, 0.875, 0.91797),
    "granite-embedding-reranker-english-r2": _scores(0.789, 0.965, 0.891, 0.941),
    "jina-reranker-v2-base-multilingual": _scores(0.23633, 0.71484, 0.50391, 0.31055),
    "ms-marco-MiniLM-L4-v2": _logits(-7.88, 9.0, 5.69, 6.66),
    "ms-marco-MiniLM-L6-v2": _logits(-6.53125, 9.6875, 6.90625, 6.6875),
    "ms-marco-MiniLM-L12-v2": _logits(-7.15625, 9.5, 5.71875, 6.84375),
    "ms-marco-TinyBERT-L2": _logits(-10.25, 9.81, 7.94, 8.31),
    "ms-marco-TinyBERT-L2-v2": _logits(-10.875, 7.0, 5.875, 5.6875),
    "mxbai-rerank-xsmall-v1": _scores(0.215, 0.9375, 0.570, 0.727),
    "mxbai-rerank-base-v1": _scores(0.05176, 0.96875, 0.71484, 0.16895),
    "mxbai-rerank-large-v1": _scores(0.0071, 0.992, 0.805, 0.342),
    "zerank-1-small": _scores(0.0943, 0.8389, 0.1205, 0.2184, scale=0.2),
    "Qwen3-Reranker-0.6B": _QWEN3,
    "Qwen3-Reranker-0.6B-seq-cls": _QWEN3,
    "ms-marco-electra-base": _scores(0.00003, 0.930, 0.789, 0.805),
    "mmarco-mMiniLMv2-L12-H384-v1": _logits(-3.28, 10.19, 3.44, 7.47),
    "bge-reranker-v2-m3-ko": _scores(0.0071, 1.0, 0.965, 1.0),
    "japanese-bge-reranker-v2-m3-v1": _scores(0.041, 0.996, 0.820, 0.984),
    "ruri-v3-reranker-310m": _scores(0.00035, 0.996, 0.0025, 0.275),
    "cross-encoder-russian-msmarco": _scores(0.0017, 0.934, 0.275, 0.036),
}


def find_golden(model: str) -> Golden | None:
    """The published values of a model by its name or folder, if there are any."""
    last = model.rstrip("/").rpartition("/")[2].lower()
    return next((golden for name, golden in GOLDEN.items() if name.lower() == last), None)
