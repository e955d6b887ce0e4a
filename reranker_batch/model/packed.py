"""A forward pass that computes no padding: the pairs of a micro-batch stand behind each other in one sequence.

Embeddings, linear layers and norms do not care which pair a token belongs to; attention is told, through
transformers' own attention interface. In the last layer, once its keys and values are there, only the tokens
that the head reads are computed on. Both give what the padded pass gives, which `agrees_with` holds them to:
a family whose attention does not go through the interface would be scored wrong without an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, NoReturn, Protocol, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from reranker_batch.core.packing import pack_tokens
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.forward import send, takes_segments
from reranker_batch.model.quiet import quiet_loading

_NAME = "packed"
_NO_INTERFACE = "Its attention does not go through transformers' attention interface."
_HALF = (torch.bfloat16, torch.float16)
_CHUNK = 1 << 19
"""Attention weights that are computed at a time: more no longer fit a core's cache."""
_LANES = 32
"""Numbers of 16 bits that a vector unit takes at once: rows of another length are slow to normalize."""


class Attention(Protocol):
    """What the attention of a layer does with the tokens of a micro-batch."""

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


class Layout:
    """Where the pairs of a micro-batch stand. A token sees those of its own pair, within the window if there is one."""

    def __init__(self, lengths: LongArray, device: torch.device) -> None:
        self.lengths = lengths
        self.device = device
        self.offsets = offsets_of(lengths)
        self.calls = 0

    @cached_property
    def starts(self) -> torch.Tensor:
        """The first token of every pair."""
        return send(self.offsets[:-1], self.device)

    @cached_property
    def bounds(self) -> torch.Tensor:
        """The offsets as kernels want them."""
        return send(self.offsets.astype(np.int32), self.device)

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Neighbours of equal length: first token, pairs, tokens of each."""
        edges = np.flatnonzero(np.diff(self.lengths, prepend=-1, append=-1))
        return [(int(self.offsets[at]), int(stop - at), int(self.lengths[at])) for at, stop in pairwise(edges)]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        self.calls += 1
        if self.device.type == "cuda":
            longest = int(self.lengths.max())
            return _varlen(query, key, value, self.bounds, self.bounds, longest, longest, scaling, window)
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        for start, count, length in self.runs:
            size = max(1, _CHUNK // (length**2 * query.shape[1]))
            for at in range(0, count, size):
                pairs = min(size, count - at)
                rows = slice(start + at * length, start + (at + pairs) * length)
                asks, keys, values = (_by_pair(states[rows], pairs) for states in (query, key, value))
                attended = _dense(asks, keys, values, scaling, _band(length, window, query.device))
                out[rows].unflatten(0, (pairs, length)).copy_(attended.transpose(1, 2))
        return out


@dataclass
class _FirstTokens:
    """Only the first token of each pair asks; keys and values are those of all tokens."""

    layout: Layout
    key: torch.Tensor
    value: torch.Tensor

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> torch.Tensor:
        self.layout.calls += 1
        seen, key, value = self._seen(window)
        if seen.device.type == "cuda":
            each = send(np.arange(len(seen.lengths) + 1, dtype=np.int32), seen.device)
            return _varlen(query, key, value, each, seen.bounds, 1, int(seen.lengths.max()), scaling, None)
        out, done = [], 0
        for start, count, length in seen.runs:
            rows = slice(start, start + count * length)
            asks = query[done : done + count, :, None]
            attended = _dense(asks, _by_pair(key[rows], count), _by_pair(value[rows], count), scaling, None)
            out.append(attended[:, :, 0])
            done += count
        return torch.cat(out)

    def _seen(self, window: int | None) -> tuple[Layout, torch.Tensor, torch.Tensor]:
        """What a first token may look at: the keys of its pair that are less than `window` away."""
        if window is None or self.layout.lengths.max() <= window:
            return self.layout, self.key, self.value
        layout = Layout(np.minimum(self.layout.lengths, window), self.layout.device)
        near = send(positions_of(self.layout.offsets[:-1], layout.lengths), self.layout.device)
        return layout, self.key[near], self.value[near]


class _KeysAndValuesError(Exception):
    """Not an error: leaves a layer where its keys and values are known."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor) -> None:
        self.key = key
        self.value = value


class _Stop:
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, window: int | None
    ) -> NoReturn:
        raise _KeysAndValuesError(key, value)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    key_bounds: torch.Tensor,
    longest_query: int,
    longest_key: int,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    more: dict[str, Any] = {"scale": scaling}
    if window is not None:
        more["window_size"] = (window - 1, window - 1)
    if _has_num_splits():
        more["num_splits"] = 1  # else the bits of a pair depend on its neighbours
    attended = varlen_attn(query, key, value, query_bounds, key_bounds, longest_query, longest_key, **more)
    return cast(torch.Tensor, attended)


@cache
def _has_num_splits() -> bool:
    """From torch 2.12 on."""
    from torch.nn.attention.varlen import varlen_attn

    return "num_splits" in inspect.signature(varlen_attn).parameters


def _dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of pairs of one length, [pairs, heads, tokens, size]; the way that measured best for the precision."""
    if query.dtype not in _HALF or mask is not None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    length = key.shape[2]
    spare = -length % _LANES
    asks, keys, values = (states.flatten(0, 1) for states in (query, _lengthen(key, spare), _lengthen(value, spare)))
    unseen = query.new_zeros(1, 1, length + spare)
    unseen[..., length:] = -torch.inf
    weights = torch.baddbmm(unseen, asks, keys.transpose(1, 2), alpha=scaling)
    return cast(torch.Tensor, torch.bmm(torch.softmax(weights, -1), values).unflatten(0, query.shape[:2]))


def _lengthen(states: torch.Tensor, spare: int) -> torch.Tensor:
    return functional.pad(states, (0, 0, 0, spare)) if spare else states


def _by_pair(states: torch.Tensor, pairs: int) -> torch.Tensor:
    """[pairs * tokens, heads, size] -> [pairs, heads, tokens, size]."""
    by_pair: torch.Tensor = states.unflatten(0, (pairs, -1))
    return by_pair.transpose(1, 2)


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if window is None or length <= window:
        return None
    place = torch.arange(length, device=device)
    return (place[:, None] - place).abs() < window


class PackedForward:
    """Runs a micro-batch as one packed sequence. Takes the model over: it no longer runs any other way.

    Raises:
        ModelError: The model cannot be run like this.
    """

    name = "packed"

    def __init__(self, model: PreTrainedModel, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._takes_segments = takes_segments(model)
        self._first_position = _first_position(model)
        self._num_layers = len(_layers(model))
        self._was = model.config._attn_implementation
        with quiet_loading():
            model.set_attn_implementation(_NAME)
        if model.config._attn_implementation != _NAME:
            raise ModelError(_NO_INTERFACE)
        self._narrow = _NarrowLayer(_layers(model)[-1])

    def release(self) -> None:
        """Give the model back as it was."""
        self._narrow.release()
        self._model.set_attn_implementation(self._was)

    def micro_batches(
        self, input_ids: Ragged, first_segment: IntArray, *, max_batch_tokens: int
    ) -> Iterator[LongArray]:
        return pack_tokens(input_ids.lengths, max_batch_tokens=max_batch_tokens)

    def tokens(self, input_ids: Ragged, first_segment: IntArray, rows: LongArray) -> int:
        return int(input_ids.lengths[rows].sum())

    def __call__(self, input_ids: Ragged, first_segment: IntArray, rows: LongArray) -> torch.Tensor:
        packed = input_ids.take(rows)
        layout = Layout(packed.lengths, self._device)
        place = positions_of(np.zeros(len(rows), dtype=np.int64), packed.lengths)
        inputs = {"input_ids": packed.values.astype(np.int64), "position_ids": place + self._first_position}
        if self._takes_segments:
            inputs["token_type_ids"] = (place >= np.repeat(first_segment[rows], packed.lengths)).astype(np.int64)
        sent = {name: send(values[None], self._device) for name, values in inputs.items()}
        logits: torch.Tensor = self._model(**sent, packed=layout).logits
        if layout.calls != self._num_layers:
            raise ModelError(_NO_INTERFACE)
        return logits[:, 0]


class _NarrowLayer:
    """Lets a layer compute on the first token of every pair only, once its keys and values are there.

    What comes out has the shape of a batch of sequences of one token, [pairs, 1, hidden], so that the rest of the
    model, which reads the first token of each sequence, runs as it is.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._whole = layer.forward
        layer.forward = self._forward

    def release(self) -> None:
        self._layer.forward = self._whole

    def _forward(self, *args: Any, packed: Layout, **kwargs: Any) -> Any:
        try:
            self._whole(*args, packed=_Stop(), **kwargs)
        except _KeysAndValuesError as reached:
            first = _FirstTokens(packed, reached.key, reached.value)
        else:
            raise ModelError(_NO_INTERFACE)
        tokens = int(packed.offsets[-1])
        narrow_args = [_at(value, packed.starts, tokens) for value in args]
        narrow_kwargs = {name: _at(value, packed.starts, tokens) for name, value in kwargs.items()}
        out = self._whole(*narrow_args, packed=first, **narrow_kwargs)
        return (out[0].transpose(0, 1), *out[1:]) if isinstance(out, tuple) else out.transpose(0, 1)


def _at(value: Any, places: torch.Tensor, tokens: int) -> Any:
    """The chosen tokens of whatever has shape [1, tokens, ...]; all else as it is."""
    if isinstance(value, torch.Tensor) and value.dim() > 1 and value.shape[:2] == (1, tokens):
        return value[:, places]
    if isinstance(value, tuple):
        return tuple(_at(item, places, tokens) for item in value)
    return value


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    count = model.config.num_hidden_layers
    found = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if len(found) != 1:
        raise ModelError(f"{len(found)} lists of {count} layers stand in {type(model).__name__}, one was expected.")
    return found[0]


def _first_position(model: PreTrainedModel) -> int:
    """RoBERTa's positions begin behind the one that stands for padding, which its embedding names."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0
