"""Kernels with a small fault, each beside a right one that it calls."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reranker_batch.model.forward.kernels import SequenceBounds, VarlenKernel

WRONG = ("window one too wide", "window one too narrow", "a neighbour's keys", "scale 1 % too large")


@dataclass(frozen=True)
class Wrong:
    """`kernel`, with one of the faults of `WRONG`."""

    kernel: VarlenKernel
    fault: str

    @property
    def name(self) -> str:
        return f"{self.kernel.name} with {self.fault}"

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
        if window is not None and "window" in self.fault:
            window += 1 if "wide" in self.fault else -1
        if "scale" in self.fault:
            scaling *= 1.01
        if "neighbour" in self.fault and len(keys.lengths) > 1:
            return self._with_neighbour(query, key, value, queries, keys, scaling, window)
        return self.kernel(query, key, value, queries, keys, scaling, window)

    def _with_neighbour(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        queries: SequenceBounds,
        keys: SequenceBounds,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        """The first sequence of two tokens or more sees the last key of the one before it in place of its own first."""
        key, value = key.clone(), value.clone()
        at = next((at for at in range(1, len(keys.lengths)) if keys.lengths[at] > 1), 1)
        start = int(keys.offsets[at])
        key[start], value[start] = key[start - 1].clone(), value[start - 1].clone()
        return self.kernel(query, key, value, queries, keys, scaling, window)
