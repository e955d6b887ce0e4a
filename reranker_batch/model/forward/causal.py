"""Causal rerankers: the prefix that all documents of a query share goes through the model once (prefix caching).

System text, instruction and query come before the document, so in a causal model their keys and values are the same
for every document of the query. A micro-batch is one row of ids without padding: the prefix of each query once, then
the rest of each of its pairs, at the positions that they would have alone. Only attention needs to know which tokens
see each other; see `attending`. All other arithmetic (most of it) is the model's own code.

A cache with expanded keys (`DynamicCache`) would work as well, but it takes two passes, pads both, and copies the keys
of the prefix for every document in each layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.packing import require_budget
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.forward.attending import ATTENTION, BlockAttention, Packed, Spans, attend_block
from reranker_batch.model.forward.padded import send


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
        model.set_attn_implementation(ATTENTION)
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
            packed_row=Packed(plan.spans.blocks(self._device), self._attention),
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
            self._model.set_attn_implementation(ATTENTION)
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
class _Plan:
    """One packed row: the prefixes, then the rest of each pair. `last` is the place of each pair's last token."""

    ids: LongArray
    positions: LongArray
    last: LongArray
    spans: Spans

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
        spans = Spans(starts[:-1], lengths, prefix_starts, skipped)
        return cls(
            ids=inputs.ids.values[source].astype(np.int64),
            positions=positions_of(skipped, lengths),
            last=starts[1:][len(firsts) :] - 1,
            spans=spans,
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
