"""A forward pass without padding: the pairs of a micro-batch follow each other in one sequence.

Embeddings, linear layers and norms do not depend on the pair that a token belongs to. Attention does: it goes through
transformers' attention interface and is computed by a kernel of `kernels.py`. Where the head reads the first token of
each pair, the last layer computes only these, once its keys and values are known; where it reads the mean of a pair,
that is taken sequence by sequence. All this gives the logits of the padded pass, which `choosing.py` checks at load: a
family whose attention does not go through the interface would get wrong scores without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.packing import pack_tokens
from reranker_batch.core.ragged import LongArray, Ragged, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.forward.kernels import SequenceBounds, VarlenKernel
from reranker_batch.model.forward.padded import send, takes_token_types
from reranker_batch.model.forward.pooling import PooledPairs, reads_mean
from reranker_batch.model.quiet import quiet_loading

_NAME = "packed"
_NO_INTERFACE = "Its attention does not go through transformers' attention interface."


class Attention(Protocol):
    """Attention of a layer over the tokens of a micro-batch."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        """`query`, `key` and `value` of shape [tokens, heads, size] -> [tokens of query, heads, size]."""


def _packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: Attention,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls it: tensors of shape [1, heads, tokens, size] -> [1, tokens, heads, size]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    return packed.attend(query, key, value, scale, sliding_window)[None], None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


AttentionInterface.register(_NAME, _packed_attention)
AttentionMaskInterface.register(_NAME, _no_mask)


@dataclass
class _OwnPair:
    """A token attends to those of its own pair, within the window if there is one."""

    bounds: SequenceBounds
    kernel: VarlenKernel
    calls: int = 0

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        self.calls += 1
        return self.kernel(query, key, value, self.bounds, self.bounds, scaling, window)


@dataclass
class _FirstTokens:
    """Only the first token of each pair is a query; keys and values are those of all tokens."""

    pairs: _OwnPair
    key: torch.Tensor
    value: torch.Tensor

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        self.pairs.calls += 1
        seen, key, value = self._seen(window)
        alone = SequenceBounds(np.ones(len(seen.lengths), dtype=np.int64), seen.device)
        return self.pairs.kernel(query, key, value, alone, seen, scaling, None)

    def _seen(self, window: int | None) -> tuple[SequenceBounds, torch.Tensor, torch.Tensor]:
        """The keys less than `window` away; kernels place a single query at the end of its keys."""
        bounds = self.pairs.bounds
        if window is None or bounds.longest <= window:
            return bounds, self.key, self.value
        near = SequenceBounds(np.minimum(bounds.lengths, window), bounds.device)
        places = send(positions_of(bounds.offsets[:-1], near.lengths), bounds.device)
        return near, self.key[places], self.value[places]


class _KeysAndValuesError(Exception):
    """Not an error: leaves a layer once its keys and values are known."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.key = key
        self.value = value


class _Stop:
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> NoReturn:
        raise _KeysAndValuesError(key, value)


class PackedForward:
    """Runs a micro-batch as one packed sequence. Until `release`, the model cannot be run otherwise.

    `kernel` may be set between calls.

    Raises:
        ModelError: The model cannot be run like this.
    """

    name = "packed"

    def __init__(self, model: PreTrainedModel, device: torch.device, kernel: VarlenKernel) -> None:
        self.kernel = kernel
        self._model = model
        self._device = device
        self._takes_types = takes_token_types(model)
        self._first_position = _first_position(model)
        self._num_layers = len(_layers(model))
        self._was = model.config._attn_implementation
        with quiet_loading():
            model.set_attn_implementation(_NAME)
        if model.config._attn_implementation != _NAME:
            raise ModelError(_NO_INTERFACE)
        self._head: PooledPairs | _NarrowLayer = (
            PooledPairs(model.base_model) if reads_mean(model) else _NarrowLayer(_layers(model)[-1])
        )

    def release(self) -> None:
        """Restore the model."""
        self._head.release()
        self._model.set_attn_implementation(self._was)

    def micro_batches(self, inputs: TokenInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        return pack_tokens(inputs.costs, max_batch_tokens=max_batch_tokens)

    def tokens(self, inputs: TokenInputs, rows: LongArray) -> int:
        return int(inputs.costs[rows].sum())

    def __call__(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor:
        packed = inputs.ids.take(rows)
        own_pair = _OwnPair(SequenceBounds(packed.lengths, self._device), self.kernel)
        place = positions_of(np.zeros(len(rows), dtype=np.int64), packed.lengths)
        positions = _positions(packed, place, self._first_position)
        arrays = {"input_ids": packed.values.astype(np.int64), "position_ids": positions}
        if self._takes_types:
            first = np.repeat(inputs.first_type_tokens[rows], packed.lengths)
            arrays["token_type_ids"] = (place >= first).astype(np.int64)
        sent = {name: send(values[None], self._device) for name, values in arrays.items()}
        logits: torch.Tensor = self._model(**sent, packed=own_pair).logits
        if own_pair.calls != self._num_layers:
            raise ModelError(_NO_INTERFACE)
        return logits[:, 0]


class _NarrowLayer:
    """Makes a layer compute only the first token of every pair, once its keys and values are known.

    The result has the shape of a batch of one-token sequences, [pairs, 1, hidden], so that the rest of the model, which
    reads the first token of each sequence, needs no change.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._whole = layer.forward
        layer.forward = self._forward

    def release(self) -> None:
        self._layer.forward = self._whole

    def _forward(self, *args: Any, packed: _OwnPair, **kwargs: Any) -> Any:
        try:
            self._whole(*args, packed=_Stop(), **kwargs)
        except _KeysAndValuesError as reached:
            first = _FirstTokens(packed, reached.key, reached.value)
        else:
            raise ModelError(_NO_INTERFACE)
        starts, tokens = packed.bounds.starts, int(packed.bounds.offsets[-1])
        narrow_args = [_at(value, starts, tokens) for value in args]
        narrow_kwargs = {name: _at(value, starts, tokens) for name, value in kwargs.items()}
        out = self._whole(*narrow_args, packed=first, **narrow_kwargs)
        return (out[0].transpose(0, 1), *out[1:]) if isinstance(out, tuple) else out.transpose(0, 1)


def _at(value: Any, places: torch.Tensor, tokens: int) -> Any:
    """The chosen tokens of values of shape [1, tokens, ...]; other values are returned unchanged."""
    if isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[:2] == (1, tokens):
        return value[:, places]
    if isinstance(value, tuple):
        return tuple(_at(item, places, tokens) for item in value)
    return value


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    count = model.config.num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if len(lists) != 1:
        raise ModelError(f"{type(model).__name__} has {len(lists)} lists of {count} layers, one was expected.")
    return lists[0]


def _positions(packed: Ragged, place: LongArray, first: int) -> LongArray:
    """Positions of the tokens, whose places in their pairs are `place`.

    RoBERTa counts ids that are not the padding's, which a text may have too if config.json names an ordinary token.
    """
    is_padding = packed.values == first - 1
    if not is_padding.any():
        return place + first
    counted = np.concatenate([[0], np.cumsum(~is_padding)])
    own = counted[1:] - np.repeat(counted[packed.offsets[:-1]], packed.lengths)
    positions: LongArray = np.where(is_padding, 0, own) + first - 1
    return positions


def _first_position(model: PreTrainedModel) -> int:
    """RoBERTa's positions begin after the padding position, which is set in its embedding."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0
