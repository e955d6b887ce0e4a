"""Causal attention over a packed row: spans of tokens, each of which sees itself and the prefix before it alone.

transformers' `AttentionInterface` lets a function take the place of a model's attention. The one here gathers queries
and keys of like spans and calls torch's SDPA; all other arithmetic is the model's own code. Layers with a window get
tiles of its size, each with the tile before it, so that no mask grows with the square of a span.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, positions_of
from reranker_batch.model.forward.padded import send

ATTENTION = "reranker_batch_packed_causal"
"""Name of this attention for `set_attn_implementation`."""
_MAX_SCORES = 1 << 24
"""Most entries in the mask of one call to SDPA: bounds memory and work when lengths differ."""


@dataclass(frozen=True)
class Block:
    """Rows that attend in one call: `queries` [rows, longest] and `keys` [rows, before + longest] are places.

    `mask` [rows or 1, 1, longest, before + longest] says which key a query sees; None means its own row up to itself.
    `real` selects the places of `queries` that are not padding; `at` is where their results go.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor | None
    real: torch.Tensor
    at: torch.Tensor


BlockAttention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, float], torch.Tensor]
"""Attention of a block's rows: query, key and value of shape [rows, heads, tokens, head size], the block's mask, and
the scaling of scores. Neighbouring heads of `query` share one of `key` and `value`."""


def attend_block(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scaling: float
) -> torch.Tensor:
    """By torch's dense attention."""
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (tensor.repeat_interleave(repeats, dim=1) for tensor in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling)


@dataclass(frozen=True)
class Packed:
    """What attention is told about a packed row; `windowed` are the blocks of layers with a window."""

    blocks: Sequence[Block]
    attention: BlockAttention = attend_block
    windowed: Sequence[Block] = ()


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    packed_row: Packed,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over packed rows; the tensors have shape [1, heads, tokens, head size], the result [1, tokens, …]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    packed = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    result = torch.empty_like(packed[0], memory_format=torch.contiguous_format)
    for block in packed_row.blocks if sliding_window is None else packed_row.windowed:
        places = (block.queries, block.keys, block.keys)
        q, k, v = (tensor[at].transpose(1, 2) for tensor, at in zip(packed, places, strict=True))
        seen = packed_row.attention(q, k, v, block.mask, scale)
        result[block.at] = seen.transpose(1, 2).flatten(0, 1)[block.real]
    return result[None], None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)


@dataclass(frozen=True)
class Spans:
    """Spans of a packed row that attend together, each after a prefix (which may be empty)."""

    starts: LongArray
    lengths: LongArray
    prefix_starts: LongArray
    prefix_lengths: LongArray

    @classmethod
    def alone(cls, starts: LongArray, lengths: LongArray) -> Spans:
        """Spans without prefixes."""
        return cls(starts, lengths, starts, np.zeros_like(lengths))

    def take(self, at: LongArray) -> Spans:
        return Spans(self.starts[at], self.lengths[at], self.prefix_starts[at], self.prefix_lengths[at])

    def blocks(self, device: torch.device) -> list[Block]:
        """Spans of like lengths, those without a prefix apart, so that padding and masks stay small."""
        return [_block(spans, device) for spans in self._alike()]

    def windowed(self, window: int, device: torch.device) -> list[Block]:
        """Blocks for layers in which a token sees the last `window` tokens, itself included; without prefixes.

        The first tile of a span sees itself alone, up to each token. Every later tile has the one before it as keys.
        """
        first = Spans.alone(self.starts, np.minimum(self.lengths, window))
        later = np.maximum(0, -(-self.lengths // window) - 1)
        starts = np.repeat(self.starts, later) + window * (1 + positions_of(np.zeros_like(later), later))
        lengths = np.minimum(window, np.repeat(self.starts + self.lengths, later) - starts)
        step = max(1, _MAX_SCORES // (2 * window * window))
        tiles = [(starts[at : at + step], lengths[at : at + step]) for at in range(0, len(starts), step)]
        mask = send(_window_mask(window), device) if tiles else None
        return [*first.blocks(device), *(_tiles(*each, window, mask, device) for each in tiles)]

    def _alike(self) -> Iterator[Spans]:
        order = np.lexsort((-self.lengths, self.prefix_lengths > 0))
        order = order[self.lengths[order] > 0]
        start = 0
        while start < len(order):
            stop = start + self._fit(order[start:])
            yield self.take(order[start:stop])
            start = stop

    def _fit(self, order: LongArray) -> int:
        """How many of the next spans share a block: at least half as long as the first, all with a prefix or none."""
        lengths, prefixes = self.lengths[order], self.prefix_lengths[order]
        is_like = (2 * lengths >= lengths[0]) & ((prefixes > 0) == (prefixes[0] > 0))
        entries = np.arange(1, len(order) + 1) * lengths[0] * (lengths[0] + np.maximum.accumulate(prefixes))
        is_in = is_like & (entries <= _MAX_SCORES)
        return max(1, len(order) if is_in.all() else int(np.argmin(is_in)))


def _block(spans: Spans, device: torch.device) -> Block:
    width, prefix = int(spans.lengths.max()), int(spans.prefix_lengths.max())
    column = np.arange(width, dtype=np.int64)
    is_real = column < spans.lengths[:, None]
    queries = np.where(is_real, spans.starts[:, None] + column, spans.starts[:, None])
    before = np.arange(prefix, dtype=np.int64)
    is_before = before < spans.prefix_lengths[:, None]
    keys_before = np.where(is_before, spans.prefix_starts[:, None] + before, spans.prefix_starts[:, None])
    mask = None
    if prefix:
        of_prefix = np.broadcast_to(is_before[:, None, :], (len(is_before), width, prefix))
        of_own = np.broadcast_to(column[:, None] >= column, (len(is_before), width, width))
        mask = send(np.concatenate([of_prefix, of_own], axis=2)[:, None], device)
    return _of_places(queries, np.concatenate([keys_before, queries], axis=1), mask, is_real, device)


def _of_places(
    queries: LongArray, keys: LongArray, mask: torch.Tensor | None, is_real: BoolArray, device: torch.device
) -> Block:
    real = np.flatnonzero(is_real)
    return Block(
        queries=send(queries, device),
        keys=send(keys, device),
        mask=mask,
        real=send(real, device),
        at=send(queries.reshape(-1)[real], device),
    )


def _tiles(
    starts: LongArray, lengths: LongArray, window: int, mask: torch.Tensor | None, device: torch.device
) -> Block:
    """Tiles of one window each, with the tile before; a last one that is shorter is padded with its first token."""
    column = np.arange(window, dtype=np.int64)
    is_real = column < lengths[:, None]
    queries = np.where(is_real, starts[:, None] + column, starts[:, None])
    keys = np.concatenate([starts[:, None] - window + column, queries], axis=1)
    return _of_places(queries, keys, mask, is_real, device)


def _window_mask(window: int) -> BoolArray:
    """Of shape [1, 1, window, 2 * window]: a query sees the keys up to itself that are less than `window` away."""
    away = window + np.arange(window)[:, None] - np.arange(2 * window)
    return ((away >= 0) & (away < window))[None, None]
