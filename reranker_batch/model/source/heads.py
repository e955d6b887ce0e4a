"""The head of a model as one row that gives the logit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from reranker_batch.errors import ModelError


class LabelDifference(nn.Module):
    """A linear head with two labels as one with a single label: the positive less the other, in float32."""

    def __init__(self, head: nn.Linear, positive: int) -> None:
        super().__init__()
        self.weight = _difference(head.weight, positive)
        self.bias = None if head.bias is None else _difference(head.bias, positive)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(states.float(), self.weight, self.bias)


def _difference(rows: torch.Tensor, positive: int) -> nn.Parameter:
    wide = rows.detach().float()
    return nn.Parameter((wide[positive] - wide[1 - positive])[None], requires_grad=False)


def fold_labels(model: PreTrainedModel, positive: int) -> None:
    """Replace the last linear layer of a model with two labels, so that it has one: the difference of the two.

    Raises:
        ModelError: There is not exactly one layer with two outputs behind the encoder.
    """
    heads = list(_layers_with_two_outputs(model))
    if len(heads) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(heads)} linear layers with two outputs behind its encoder, so the head "
            "of its two labels is not known. Use a model trained with num_labels=1."
        )
    [(parent, name, head)] = heads
    setattr(parent, name, LabelDifference(head, positive))
    cast(Any, model.config).num_labels = 1


def _layers_with_two_outputs(model: PreTrainedModel) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    of_encoder = set(model.base_model.modules())
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear) and child.out_features == 2 and child not in of_encoder:
                yield parent, name, child


def answer_weights(model: PreTrainedModel, answer_ids: Sequence[int]) -> torch.Tensor:
    """What turns the last hidden state of a causal model into the logit, in float32 of shape [hidden].

    That is the weight of its single label; or the head's row of the positive answer, less that of the negative one.
    """
    head: Any = model.get_output_embeddings()
    if head is None:
        return cast(torch.Tensor, cast(Any, model).score.weight[0].detach().float())
    rows = head.weight.detach()[list(answer_ids)].float()
    return cast(torch.Tensor, rows[0] - rows[1] if len(answer_ids) > 1 else rows[0].clone())
