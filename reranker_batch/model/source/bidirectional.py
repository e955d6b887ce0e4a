"""Llama without a causal mask, with a head that reads the mean of all tokens."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import LlamaForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput


class BidirectionalLlama(LlamaForSequenceClassification):
    """As `LlamaBidirectionalForSequenceClassification` of NVIDIA's repositories, on the Llama of transformers.

    The config has `is_causal` False, and `logit_temperature`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[no-untyped-call]
        for layer in cast(Any, self.model).layers:
            layer.self_attn.is_causal = False

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any
    ) -> SequenceClassifierOutput:
        states = self.model(input_ids, attention_mask=attention_mask, use_cache=False, **inputs).last_hidden_state
        means = _mean(states, attention_mask).to(states.dtype)
        return SequenceClassifierOutput(logits=self.score(means) / cast(Any, self.config).logit_temperature)


def _mean(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """States of shape [rows, tokens, hidden] -> float32 means over the tokens of each row that are no padding."""
    if mask is None:
        return states.float().mean(dim=1)
    weights = mask[..., None].float()
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1)
