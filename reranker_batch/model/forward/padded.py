"""The forward pass as the scorer calls it, and the plain one with padding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.packing import pack_equal_lengths, pack_micro_batches
from reranker_batch.core.ragged import LongArray, Ragged, positions_of
from reranker_batch.model.forward.passes import PassForward

Forward: TypeAlias = PassForward[TokenInputs]
"""Runs a model on pairs, and gives logits of shape [rows]."""


class PaddedForward:
    """The plain pass: rows of a micro-batch are padded on the right to the longest."""

    name = "padded"

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._pad_id = pad_id_of(model)
        self._takes_types = takes_token_types(model)

    def micro_batches(self, inputs: TokenInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        return pack_micro_batches(inputs.costs, max_batch_tokens=max_batch_tokens)

    def tokens(self, inputs: TokenInputs, rows: LongArray) -> int:
        return len(rows) * int(inputs.costs[rows].max())

    def __call__(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor:
        ids = send(pad_rows(inputs.ids, rows, pad_id=self._pad_id), self._device)
        column = torch.arange(ids.shape[1], device=self._device)
        lengths = send(inputs.costs[rows], self._device)
        tensors = {"input_ids": ids, "attention_mask": (column < lengths[:, None]).long()}
        if self._takes_types:
            first = send(inputs.first_type_tokens[rows].astype(np.int64), self._device)
            tensors["token_type_ids"] = (column >= first[:, None]).long()
        logits: torch.Tensor = self._model(**tensors).logits
        return logits[:, 0]


class EvenForward(PaddedForward):
    """The plain pass without padding: pairs of a micro-batch have one length.

    It gives the logits of each pair alone, and is for models whose logits padding changes, and what others are compared
    with.
    """

    name = "one length at a time"

    def micro_batches(self, inputs: TokenInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        return pack_equal_lengths(inputs.costs, max_batch_tokens=max_batch_tokens)


def use_plain_outputs(model: PreTrainedModel) -> None:
    """Undo settings of a config.json that change what a pass returns or how it is split, but no logit."""
    modules: list[Any] = list(model.modules())
    for module in modules:
        if isinstance(module, PreTrainedModel):
            module.config.return_dict = True
            module.config.output_hidden_states = False
        if getattr(module, "chunk_size_feed_forward", 0):
            module.chunk_size_feed_forward = 0


def send(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array on the device; to a GPU through pinned memory, without waiting."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def pad_rows(input_ids: Ragged, rows: LongArray, *, pad_id: int) -> LongArray:
    """The chosen rows as int64 of shape [rows, longest], padded on the right."""
    lengths = input_ids.lengths[rows]
    width = int(lengths.max())
    padded = np.full((len(rows), width), pad_id, dtype=np.int64)
    starts = np.arange(len(rows), dtype=np.int64) * width
    padded.reshape(-1)[positions_of(starts, lengths)] = input_ids.values[positions_of(input_ids.offsets[rows], lengths)]
    return padded


def pad_id_of(model: PreTrainedModel) -> int:
    """The model's own padding id: RoBERTa counts positions by the ids that differ from it. Some say -1 for none."""
    return max(0, int(getattr(model.config, "pad_token_id", None) or 0))


def takes_token_types(model: PreTrainedModel) -> bool:
    """Whether the model has more than one token type."""
    config: Any = model.config
    takes = "token_type_ids" in inspect.signature(model.base_model.forward).parameters
    return takes and (getattr(config, "type_vocab_size", None) or 0) > 1
