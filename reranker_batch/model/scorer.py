"""One model in memory: inputs in, one logit a pair out."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.packing import pack_micro_batches
from reranker_batch.core.pairs import FloatArray, PairScores
from reranker_batch.core.ragged import IntArray, LongArray, Ragged, positions_of
from reranker_batch.errors import RowError
from reranker_batch.model.loading import choose_device, choose_dtype, load_model
from reranker_batch.model.recipes import Recipe

_LOG = logging.getLogger(__name__)
_CPU_BATCH_TOKENS = 8192
_GPU_BATCH_TOKENS = 65536


class Forward(Protocol):
    """Runs a model on one micro-batch. Ways that compute no padding come beside the padded one."""

    def __call__(self, input_ids: Ragged, first_segment: IntArray, rows: LongArray) -> torch.Tensor:
        """Logits of shape [rows] on the model's device, without waiting for it."""


class CrossEncoderScorer:
    """Scores pairs with one copy of a model. Which pairs share a micro-batch depends on the pairs alone."""

    def __init__(
        self,
        forward: Forward,
        *,
        recipe: Recipe,
        dtype: torch.dtype,
        device: torch.device,
        max_batch_tokens: int,
        num_embeddings: int,
    ) -> None:
        self.recipe = recipe
        self.dtype = dtype
        self.device = device
        self.max_batch_tokens = max_batch_tokens
        self.num_embeddings = num_embeddings
        self._forward = forward
        self._room = max_batch_tokens
        """Tokens that the device is known to hold at once: the budget until a micro-batch ran out of memory."""

    def with_budget(self, max_batch_tokens: int) -> CrossEncoderScorer:
        """The same model under another token budget; the weights are shared."""
        return CrossEncoderScorer(
            self._forward,
            recipe=self.recipe,
            dtype=self.dtype,
            device=self.device,
            max_batch_tokens=max_batch_tokens,
            num_embeddings=self.num_embeddings,
        )

    def score(self, input_ids: Ragged, first_segment: IntArray) -> PairScores:
        """Score all pairs. One that the device's memory does not hold, even alone, is refused as `out_of_memory`.

        Raises:
            PairTooLongError: One pair alone is over the token budget. Nothing was computed.
        """
        logits = np.full(len(input_ids), np.nan, dtype=np.float32)
        batches = deque(pack_micro_batches(input_ids.lengths, max_batch_tokens=self.max_batch_tokens))
        scored: list[tuple[LongArray, torch.Tensor]] = []
        refused: dict[int, RowError] = {}
        splits = 0
        while batches:
            rows = batches.popleft()
            longest = int(input_ids.lengths[rows[0]])
            if len(rows) > 1 and len(rows) * longest > self._room:
                size = max(1, self._room // longest)
                batches.extendleft(reversed([rows[at : at + size] for at in range(0, len(rows), size)]))
            elif (on_device := self._try(input_ids, first_segment, rows)) is not None:
                scored.append((rows, on_device))
            elif len(rows) == 1:
                refused[int(rows[0])] = _out_of_memory(longest, self.device)
            else:
                splits += 1
                self._room = len(rows) * longest // 2
                batches.appendleft(rows)
        if scored:
            logits[np.concatenate([rows for rows, _ in scored])] = _fetch([one for _, one in scored])
        return PairScores(logits, refused, splits)

    def _try(self, input_ids: Ragged, first_segment: IntArray, rows: LongArray) -> torch.Tensor | None:
        """Logits of a micro-batch, None where the device's memory does not hold it."""
        try:
            with torch.inference_mode():
                return self._forward(input_ids, first_segment, rows)
        except torch.OutOfMemoryError as error:
            _LOG.warning("micro-batch of %d pairs, %d tokens: %s", len(rows), input_ids.lengths[rows].sum(), error)
        # Only now are the tensors of the failed pass gone, which the traceback held.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _fetch(on_device: list[torch.Tensor]) -> FloatArray:
    logits: FloatArray = torch.cat(on_device).float().cpu().numpy()
    return logits


def _out_of_memory(tokens: int, device: torch.device) -> RowError:
    return RowError(
        f"The memory of the device ({device}) does not hold this pair of {tokens} tokens, even alone. "
        "Lower limits.max_pair_tokens or use a device with more memory.",
        reason_code="out_of_memory",
    )


@dataclass(frozen=True)
class PaddedForward:
    """The plain way: rows of a micro-batch padded on the right to the longest."""

    model: PreTrainedModel
    device: torch.device
    pad_id: int
    takes_segments: bool

    def __call__(self, input_ids: Ragged, first_segment: IntArray, rows: LongArray) -> torch.Tensor:
        lengths = input_ids.lengths[rows]
        ids = self._send(pad_rows(input_ids, rows, pad_id=self.pad_id))
        column = torch.arange(ids.shape[1], device=self.device)
        inputs = {"input_ids": ids, "attention_mask": (column < self._send(lengths)[:, None]).long()}
        if self.takes_segments:
            inputs["token_type_ids"] = (column >= self._send(first_segment[rows].astype(np.int64))[:, None]).long()
        logits: torch.Tensor = self.model(**inputs).logits
        return logits[:, 0]

    def _send(self, array: LongArray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def pad_rows(input_ids: Ragged, rows: LongArray, *, pad_id: int) -> LongArray:
    """The chosen rows as int64 of shape [rows, longest], filled up on the right."""
    lengths = input_ids.lengths[rows]
    width = int(lengths.max())
    padded = np.full((len(rows), width), pad_id, dtype=np.int64)
    starts = np.arange(len(rows), dtype=np.int64) * width
    padded.reshape(-1)[positions_of(starts, lengths)] = input_ids.values[positions_of(input_ids.offsets[rows], lengths)]
    return padded


def load_scorer(
    folder: Path,
    *,
    recipe: Recipe,
    max_batch_tokens: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> CrossEncoderScorer:
    """Load the weights of a local model folder. Nothing is scored yet; `start_scorer` checks it as well.

    Raises:
        ModelError: The model cannot be used as asked; says why and what to do.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    model = load_model(folder, recipe=recipe, dtype=precision, device=where, trust_remote_code=trust_remote_code)
    embeddings: Any = model.get_input_embeddings()
    return CrossEncoderScorer(
        PaddedForward(model, where, pad_id=_pad_id(model), takes_segments=_takes_segments(model)),
        recipe=recipe,
        dtype=precision,
        device=where,
        max_batch_tokens=max_batch_tokens or default_batch_tokens(where),
        num_embeddings=embeddings.weight.shape[0],
    )


def default_batch_tokens(device: torch.device) -> int:
    """A token budget that suits most models: caches on a CPU and the cores of a GPU want different ones."""
    return _GPU_BATCH_TOKENS if device.type == "cuda" else _CPU_BATCH_TOKENS


def _pad_id(model: PreTrainedModel) -> int:
    # RoBERTa counts positions by the ids that differ from this one, so that it must be the model's own.
    return int(getattr(model.config, "pad_token_id", None) or 0)


def _takes_segments(model: PreTrainedModel) -> bool:
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    return takes and (getattr(model.config, "type_vocab_size", None) or 0) > 1
