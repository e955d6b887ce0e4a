"""Heads that read the mean of a pair's tokens, and not the first token, on packed sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import ModelError
from reranker_batch.model.forward.padded import send


def reads_mean(model: PreTrainedModel) -> bool:
    """Whether the head of this model reads the mean of all tokens of a pair."""
    return getattr(model.config, "classifier_pooling", None) == "mean"


def mean_of_each(states: torch.Tensor, lengths: LongArray) -> torch.Tensor:
    """States of shape [tokens, hidden] -> means of shape [sequences, hidden].

    Sums are in float32 at least. The bits of a mean do not depend on the other sequences.
    """
    exact = states if states.dtype == torch.float64 else states.float()
    means = torch.segment_reduce(exact, "mean", lengths=send(lengths, states.device), axis=0, unsafe=True)
    return means.to(states.dtype)


class PooledPairs:
    """Makes an encoder return the mean of each pair as if it were the pair's only token, [pairs, 1, hidden].

    The mean that the head takes of that is the same number.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._handle = encoder.register_forward_hook(_pool, with_kwargs=True)

    def release(self) -> None:
        self._handle.remove()


def _pool(encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    states = output.last_hidden_state
    if "packed" not in kwargs or states.shape[0] != 1:
        raise ModelError(f"{type(encoder).__name__} is not told about packed pairs.")
    output.last_hidden_state = mean_of_each(states[0], kwargs["packed"].bounds.lengths)[:, None]
    return output
