"""Heads that read the mean of a pair's tokens, and not the first token, on packed sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from reranker_batch.core.ragged import LongArray
from reranker_batch.model.forward.padded import send

_PIECE = 128
"""Tokens whose states are added one after another."""


def reads_mean(model: PreTrainedModel) -> bool:
    """Whether the head of this model reads the mean of all tokens of a pair."""
    return getattr(model.config, "classifier_pooling", None) == "mean"


def mean_of_each(states: torch.Tensor, lengths: LongArray) -> torch.Tensor:
    """States of shape [tokens, hidden] -> means of shape [sequences, hidden].

    Sums are in float32 at least, of pieces and then of their sums: one after another, thousands of numbers would round
    away what is left of a mean. Its bits do not depend on the other sequences.
    """
    exact = states if states.dtype == torch.float64 else states.float()
    counts = -(-lengths // _PIECE)
    pieces = np.full(int(counts.sum()), _PIECE, dtype=np.int64)
    pieces[np.cumsum(counts) - 1] = lengths - (counts - 1) * _PIECE
    sums = _sums(_sums(exact, pieces), counts)
    return (sums / send(lengths, states.device)[:, None]).to(states.dtype)


def _sums(states: torch.Tensor, lengths: LongArray) -> torch.Tensor:
    return torch.segment_reduce(states, "sum", lengths=send(lengths, states.device), axis=0, unsafe=True)


class PooledPairs:
    """Makes an encoder return the mean of each pair as if it were the pair's only token, [pairs, 1, hidden].

    The mean that the head takes of that is the same number.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._handle = encoder.register_forward_hook(_pool, with_kwargs=True)

    def release(self) -> None:
        self._handle.remove()


def _pool(encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    output.last_hidden_state = mean_of_each(output.last_hidden_state[0], kwargs["packed"].bounds.lengths)[:, None]
    return output
