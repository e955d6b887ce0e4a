"""Listwise rerankers: blocks of several documents, packed into one row, each seen by itself alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.packing import pack_tokens
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.ragged import LongArray, Ragged, positions_of
from reranker_batch.errors import ModelError
from reranker_batch.model.forward.attending import ATTENTION, BlockAttention, Packed, Spans, attend_block
from reranker_batch.model.forward.cosines import request_scores
from reranker_batch.model.forward.padded import send


@dataclass(frozen=True)
class BlockInputs:
    """Blocks of any requests. `marks[i]` are the places of block `i` whose states become vectors, the query's last."""

    ids: Ragged
    marks: Ragged

    @property
    def costs(self) -> LongArray:
        return self.ids.lengths

    def __len__(self) -> int:
        return len(self.ids)


class ListForward:
    """Runs a model on a row of blocks without padding; a token sees the earlier ones of its own block.

    Gives a float32 vector for each mark of each block: states at other places do not reach the projector.
    """

    name = "packed"

    def __init__(
        self, model: PreTrainedModel, device: torch.device, *, attention: BlockAttention = attend_block
    ) -> None:
        self._window = _window_of(model)
        self._attention = attention
        model.set_attn_implementation(ATTENTION)
        self._model: Any = model
        self._base: Any = model.base_model
        self._device = device

    @property
    def window(self) -> int | None:
        """Tokens that a layer with a window sees; None if no layer has one."""
        return self._window

    def micro_batches(self, inputs: BlockInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        """Blocks in order of their lengths, longest first; one over the budget is computed alone."""
        costs = inputs.costs
        order = np.argsort(-costs, kind="stable")
        over = int(np.count_nonzero(costs > max_batch_tokens))
        yield from order[:over, None]
        within = order[over:]
        for rows in pack_tokens(costs[within], max_batch_tokens=max_batch_tokens):
            yield within[rows]

    def tokens(self, inputs: BlockInputs, rows: LongArray) -> int:
        return int(inputs.costs[rows].sum())

    def __call__(self, inputs: BlockInputs, rows: LongArray) -> torch.Tensor:
        """Vectors of the blocks at `rows`, one after the other."""
        ids, marks = inputs.ids.take(rows), inputs.marks.take(rows)
        spans = Spans.alone(ids.offsets[:-1], ids.lengths)
        windowed = () if self._window is None else spans.windowed(self._window, self._device)
        states = self._base(
            input_ids=send(ids.values.astype(np.int64), self._device)[None],
            position_ids=send(positions_of(np.zeros_like(ids.lengths), ids.lengths), self._device)[None],
            use_cache=False,
            packed_row=Packed(spans.blocks(self._device), self._attention, windowed),
        ).last_hidden_state[0]
        places = np.repeat(ids.offsets[:-1], marks.lengths) + marks.values.astype(np.int64)
        return cast(torch.Tensor, self._model.projector(states[send(places, self._device)].float()))

    def plain_vectors(self, inputs: BlockInputs) -> FloatArray:
        """Vectors of all blocks by the model's own forward pass, one block at a time; for checks."""
        self._model.set_attn_implementation("sdpa")
        try:
            with torch.inference_mode():
                vectors = [self._plain(inputs, at) for at in range(len(inputs))]
        finally:
            self._model.set_attn_implementation(ATTENTION)
        return cast(FloatArray, torch.cat(vectors).cpu().numpy())

    def _plain(self, inputs: BlockInputs, at: int) -> torch.Tensor:
        ids = send(inputs.ids[at].astype(np.int64), self._device)[None]
        marks = send(inputs.marks[at].astype(np.int64), self._device)
        states = self._base(input_ids=ids, use_cache=False).last_hidden_state[0]
        return cast(torch.Tensor, self._model.projector(states[marks].float()))


def packed_vectors(forward: ListForward, inputs: BlockInputs) -> FloatArray:
    """Vectors of all blocks in one row, for checks."""
    with torch.inference_mode():
        vectors = forward(inputs, np.arange(len(inputs), dtype=np.int64))
    return cast(FloatArray, vectors.cpu().numpy())


def scaled(vectors: FloatArray) -> FloatArray:
    """All numbers of the vectors, with a mean square of 1 in each vector."""
    size = np.sqrt(np.mean(np.square(vectors, dtype=np.float64), axis=1, keepdims=True))
    return cast(FloatArray, (vectors / np.where(size > 0, size, 1)).astype(np.float32).reshape(-1))


def block_cosines(inputs: BlockInputs, vectors: FloatArray) -> FloatArray:
    """The cosines of the documents of each block with its query."""
    blocks = np.split(vectors, inputs.marks.offsets[1:-1])
    return np.concatenate([request_scores([block]) for block in blocks])


def _window_of(model: PreTrainedModel) -> int | None:
    """Tokens that layers with a window see.

    Raises:
        ModelError: There are layers of another kind, or their window is not known.
    """
    config: Any = model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"The model has layers of the kinds {', '.join(sorted(kinds))} (layer_types in config.json), and the "
            "listwise recipes know full_attention and sliding_attention. Compare config.json with the source."
        )
    if "sliding_attention" not in kinds:
        return None
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or window < 1:
        raise ModelError(
            "layer_types in config.json names layers of sliding_attention, and their window is not known "
            f"(sliding_window={window!r}; without use_sliding_window: true it is left out). Compare config.json with "
            "the source."
        )
    return window
