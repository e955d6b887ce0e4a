"""Whether an attention kernel computes what it should, on numbers that show every fault."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from reranker_batch.core.ragged import LongArray
from reranker_batch.model.forward.kernels import PlainKernel, SequenceBounds, VarlenKernel

_LENGTHS = (1, 2, 3, 17, 17, 300, 1, 65)
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2**-9, torch.bfloat16: 2**-6}
"""The norm of a sequence's error over that of its result: rounding stays well below it."""
_SCALE_STEP = 0.01
_SCALE_TOLERANCE = 0.4
"""Of a step. Rounding is random and does not add up to a change of the scale."""
_MOST_HEADS = 4


@dataclass(frozen=True)
class AttentionShape:
    """How a layer of a model calls its kernel. `query_heads` are those that share a head of keys."""

    key_heads: int
    query_heads: int
    head_size: int
    scaling: float
    window: int | None


@dataclass
class RecordingKernel:
    """Another kernel that notes how it is called."""

    kernel: VarlenKernel
    shapes: set[AttentionShape] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.kernel.name

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        queries: SequenceBounds,
        keys: SequenceBounds,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        heads = key.shape[1]
        self.shapes.add(AttentionShape(heads, query.shape[1] // heads, query.shape[2], float(scaling), window))
        return self.kernel(query, key, value, queries, keys, scaling, window)


def kernel_fault(
    kernel: VarlenKernel, shape: AttentionShape, *, device: torch.device, dtype: torch.dtype
) -> str | None:
    """What a kernel does wrong when it is called like this; None if it computes the function of `PlainKernel`.

    Values are keys in another order and scores are of size 1, so that a result follows the scale, and one key more or
    less, or one of another sequence, moves it by far more than rounding.
    """
    lengths = _lengths(shape.window)
    for asking in (np.ones_like(lengths), lengths) if shape.window is None else (lengths,):
        if fault := _fault(kernel, shape, asking, lengths, device, dtype):
            return fault
    return None


def _lengths(window: int | None) -> LongArray:
    """With sequences just inside the window, just outside of it, and on both sides of a token."""
    around = () if window is None else (window, window + 1, 2 * window + 1)
    return np.array([*_LENGTHS, *around], dtype=np.int64)


def _fault(
    kernel: VarlenKernel,
    shape: AttentionShape,
    asking: LongArray,
    lengths: LongArray,
    device: torch.device,
    dtype: torch.dtype,
) -> str | None:
    queries, keys = SequenceBounds(asking, device), SequenceBounds(lengths, device)
    query, key = (states.to(device, dtype) for states in _states(shape, int(asking.sum()), int(lengths.sum())))
    value, plain = key.roll(1, dims=-1), PlainKernel()
    wide = (query.float(), key.float(), value.float(), queries, keys)
    right = plain(*wide, shape.scaling, shape.window)
    error = kernel(query, key, value, queries, keys, shape.scaling, shape.window).float() - right
    norms = [
        (part.norm() / whole.norm()).item()
        for part, whole in zip(error.split(asking.tolist()), right.split(asking.tolist()), strict=True)
    ]
    if not max(norms) <= _TOLERANCE[dtype]:
        worst = int(np.argmax(np.nan_to_num(norms, nan=np.inf)))
        return f"The result for a sequence of {lengths[worst]} tokens is off by {norms[worst]:.1%}."
    step = plain(*wide, shape.scaling * (1 + _SCALE_STEP), shape.window) - right
    steps = ((error * step).sum() / step.square().sum()).item()
    if not abs(steps) <= _SCALE_TOLERANCE:
        return f"Its scores are scaled by {1 + steps * _SCALE_STEP:.4f}."
    return None


def _states(shape: AttentionShape, num_queries: int, num_keys: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random queries and keys whose scores have a standard deviation of 1, the same in every process."""
    rng = torch.Generator().manual_seed(0)
    heads, size = min(shape.key_heads, _MOST_HEADS), shape.head_size
    query = torch.randn(num_queries, heads * shape.query_heads, size, generator=rng) / (shape.scaling * size**0.5)
    return query, torch.randn(num_keys, heads, size, generator=rng)
