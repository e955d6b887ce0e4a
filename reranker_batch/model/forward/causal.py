"""Causal rerankers: the prefix that all documents of a query share goes through the model once (prefix caching).

System text, instruction and query come before the document, so in a causal model their keys and values are the same
for every document of the query. A micro-batch is one row of ids without padding: the prefix of each query once, then
the rest of each of its pairs, at the positions that they would have alone. Only attention needs to know which tokens
see each other. It is replaced, through transformers' `AttentionInterface`, by a function that gathers the keys of the
prefix and of the row itself and calls torch's SDPA. All other arithmetic (most of it) is the model's own code.

A cache with expanded keys (`DynamicCache`) would work as well, but it takes two passes, pads both, and copies the keys
of the prefix for every document in each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.packing import require_budget
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.forward.padded import send

_ATTENTION = "reranker_batch_shared_prefix"
_MAX_SCORES = 1 << 24
"""Most entries in the mask of one call to SDPA: bounds memory and work when lengths differ."""


@dataclass(frozen=True)
class _Block:
    """Rows that attend in one call: `queries` [rows, longest] and `keys` [rows, prefix + longest] are places.

    `mask` [rows, 1, longest, prefix + longest] says which key a query sees; None means its own row up to itself.
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
class _Shared:
    """What attention is told about a packed row."""

    blocks: Sequence[_Block]
    attention: BlockAttention


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    shared_prefix: _Shared,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over packed rows; the tensors have shape [1, heads, tokens, head size], the result [1, tokens, …]."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    packed = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    result = torch.empty_like(packed[0], memory_format=torch.contiguous_format)
    for block in shared_prefix.blocks:
        places = (block.queries, block.keys, block.keys)
        q, k, v = (tensor[at].transpose(1, 2) for tensor, at in zip(packed, places, strict=True))
        seen = shared_prefix.attention(q, k, v, block.mask, scale)
        result[block.at] = seen.transpose(1, 2).flatten(0, 1)[block.real]
    return result[None], None


AttentionInterface.register(_ATTENTION, _attend)
AttentionMaskInterface.register(_ATTENTION, lambda *args, **kwargs: None)


class SharedPrefixForward:
    """Runs a causal model on packed rows: the prefix of a group of inputs is computed once per micro-batch.

    `weights` of shape [hidden] turn the hidden state of the last position into the logit, in float32. They are the
    difference of two rows of the head, so the other logits are never computed.
    """

    name = "shared prefix"

    def __init__(
        self,
        model: PreTrainedModel,
        weights: torch.Tensor,
        device: torch.device,
        *,
        attention: BlockAttention = attend_block,
    ) -> None:
        _require_plain_attention(model)
        model.set_attn_implementation(_ATTENTION)
        self._model: Any = model
        self._base: Any = model.base_model
        self._weights = weights.to(device, torch.float32)
        self._device = device
        self._attention = attention

    def micro_batches(self, inputs: TokenInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        """The pairs of a group stay together, longest first; groups are in the order of their longest pairs."""
        lengths = inputs.costs
        require_budget(lengths, max_batch_tokens)
        _, group_of = _number_groups(inputs.groups)
        longest = np.zeros(len(lengths), dtype=np.int64)
        np.maximum.at(longest, group_of, lengths)
        order = np.lexsort((-lengths, group_of, -longest[group_of]))
        return _fill(order, group_of, inputs.prefix_tokens, lengths, max_batch_tokens)

    def tokens(self, inputs: TokenInputs, rows: LongArray) -> int:
        firsts, _ = _number_groups(inputs.groups[rows])
        prefix_tokens = inputs.prefix_tokens[rows]
        return int(prefix_tokens[firsts].sum() + (inputs.costs[rows] - prefix_tokens).sum())

    def __call__(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor:
        plan = _Plan.of(inputs, rows)
        hidden: torch.Tensor = self._base(
            input_ids=send(plan.ids, self._device)[None],
            position_ids=send(plan.positions, self._device)[None],
            use_cache=False,
            shared_prefix=_Shared([_block(spans, self._device) for spans in plan.blocks()], self._attention),
        ).last_hidden_state
        return hidden[0, send(plan.last, self._device)].float() @ self._weights

    def plain_logits(self, ids: Ragged) -> FloatArray:
        """Logits by the model's own forward pass, one pair at a time and without shared prefixes; for checks."""
        self._model.set_attn_implementation("sdpa")
        try:
            with torch.inference_mode():
                rows = [send(ids[at].astype(np.int64), self._device)[None] for at in range(len(ids))]
                last = [self._base(input_ids=row, use_cache=False).last_hidden_state[0, -1] for row in rows]
                logits: FloatArray = (torch.stack(last).float() @ self._weights).cpu().numpy()
        finally:
            self._model.set_attn_implementation(_ATTENTION)
        return logits


def _number_groups(groups: LongArray) -> tuple[LongArray, LongArray]:
    """The first row of every group, in the order of the rows, and for every row the place of its group among those."""
    _, firsts, place = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    return firsts[order], np.argsort(order)[place]


def _fill(
    order: LongArray, group_of: LongArray, prefix_tokens: IntArray, lengths: LongArray, max_batch_tokens: int
) -> Iterator[LongArray]:
    start, spent, seen = 0, 0, -1
    for at, row in enumerate(order):
        rest = int(lengths[row] - prefix_tokens[row])
        cost = rest if group_of[row] == seen else int(lengths[row])
        if spent and spent + cost > max_batch_tokens:
            yield order[start:at]
            start, spent, cost = at, 0, int(lengths[row])
        spent, seen = spent + cost, int(group_of[row])
    if len(order):
        yield order[start:]


@dataclass(frozen=True)
class _Spans:
    """Spans of a packed row that attend together, each after a prefix (which may be empty)."""

    starts: LongArray
    lengths: LongArray
    prefix_starts: LongArray
    prefix_lengths: LongArray

    def take(self, at: LongArray) -> _Spans:
        return _Spans(self.starts[at], self.lengths[at], self.prefix_starts[at], self.prefix_lengths[at])


@dataclass(frozen=True)
class _Plan:
    """One packed row: the prefixes, then the rest of each pair. `last` is the place of each pair's last token."""

    ids: LongArray
    positions: LongArray
    last: LongArray
    spans: _Spans

    @classmethod
    def of(cls, inputs: TokenInputs, rows: LongArray) -> _Plan:
        firsts, group_of = _number_groups(inputs.groups[rows])
        prefix_tokens = inputs.prefix_tokens[rows].astype(np.int64)
        rest = inputs.costs[rows] - prefix_tokens
        from_row = np.concatenate([rows[firsts], rows])
        nothing = np.zeros(len(firsts), dtype=np.int64)
        skipped = np.concatenate([nothing, prefix_tokens])
        lengths = np.concatenate([prefix_tokens[firsts], rest])
        starts = offsets_of(lengths)
        source = positions_of(inputs.ids.offsets[from_row] + skipped, lengths)
        prefix_starts = np.concatenate([nothing, starts[: len(firsts)][group_of]])
        spans = _Spans(starts[:-1], lengths, prefix_starts, skipped)
        return cls(
            ids=inputs.ids.values[source].astype(np.int64),
            positions=positions_of(skipped, lengths),
            last=starts[1:][len(firsts) :] - 1,
            spans=spans,
        )

    def blocks(self) -> Iterator[_Spans]:
        """Spans of like lengths, those without a prefix apart, so that padding and masks stay small."""
        spans = self.spans
        order = np.lexsort((-spans.lengths, spans.prefix_lengths > 0))
        order = order[spans.lengths[order] > 0]
        start = 0
        while start < len(order):
            stop = start + self._fit(order[start:])
            yield spans.take(order[start:stop])
            start = stop

    def _fit(self, order: LongArray) -> int:
        """How many of the next spans share a block: at least half as long as the first, all with a prefix or none."""
        lengths, prefixes = self.spans.lengths[order], self.spans.prefix_lengths[order]
        is_like = (2 * lengths >= lengths[0]) & ((prefixes > 0) == (prefixes[0] > 0))
        entries = np.arange(1, len(order) + 1) * lengths[0] * (lengths[0] + np.maximum.accumulate(prefixes))
        is_in = is_like & (entries <= _MAX_SCORES)
        return max(1, len(order) if is_in.all() else int(np.argmin(is_in)))


def _block(spans: _Spans, device: torch.device) -> _Block:
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
    real = np.flatnonzero(is_real)
    return _Block(
        queries=send(queries, device),
        keys=send(np.concatenate([keys_before, queries], axis=1), device),
        mask=mask,
        real=send(real, device),
        at=send(queries.reshape(-1)[real], device),
    )


def _require_plain_attention(model: PreTrainedModel) -> None:
    """Refuse a model with sliding windows or softcapped scores, which no recipe needs."""
    config: Any = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "attn_logit_softcapping", None):
        raise ModelError(
            f"The attention of this {config.model_type} model is not plain causal attention (layer types: "
            f"{', '.join(sorted(kinds))}), which the causal recipes need."
        )
