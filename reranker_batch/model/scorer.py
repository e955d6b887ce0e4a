"""One model in memory: inputs in, one logit a pair out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.inputs import ModelInputs, TokenInputs, as_tokens
from reranker_batch.core.pairs import FloatArray, PairScores, encode_text_pairs, ignore_progress
from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import RowError
from reranker_batch.model.encoding.canaries import TRIAL_PAIRS
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder
from reranker_batch.model.forward.batch_tokens import find_batch_tokens
from reranker_batch.model.forward.choosing import choose_causal_forward, choose_forward
from reranker_batch.model.forward.lanes import Lanes, lanes_for
from reranker_batch.model.forward.padded import Forward
from reranker_batch.model.recipes import Kind, Recipe
from reranker_batch.model.source.loading import check_ids, choose_device, choose_dtype, load_model, num_embeddings

logger = logging.getLogger(__name__)


@dataclass
class _Outcome:
    """Results of a micro-batch; logits are on the device."""

    scored: list[tuple[LongArray, torch.Tensor]] = field(default_factory=list)
    failures: dict[int, RowError] = field(default_factory=dict)
    splits: int = 0

    def rows(self) -> list[LongArray]:
        """The pairs that are done, scored or failed."""
        return [*(rows for rows, _ in self.scored), np.array([*self.failures], dtype=np.int64)]


class CrossEncoderScorer:
    """Scores pairs with one copy of a model.

    Batching is deterministic: it depends on the pairs, the budget and the number of lanes, not on timing.
    """

    def __init__(
        self,
        forward: Forward,
        *,
        recipe: Recipe,
        dtype: torch.dtype,
        device: torch.device,
        max_batch_tokens: int,
        lanes: Lanes | None = None,
    ) -> None:
        self.recipe = recipe
        self.dtype = dtype
        self.device = device
        self.max_batch_tokens = max_batch_tokens
        self._forward = forward
        self._lanes = lanes or Lanes()
        self._fitting_tokens = max_batch_tokens
        """Tokens of a micro-batch that fit into memory: the budget, until a micro-batch runs out of memory."""

    @property
    def forward(self) -> Forward:
        """How the model is run."""
        return self._forward

    def with_budget(self, max_batch_tokens: int) -> CrossEncoderScorer:
        """The same model under another token budget; the weights are shared."""
        return CrossEncoderScorer(
            self._forward,
            recipe=self.recipe,
            dtype=self.dtype,
            device=self.device,
            max_batch_tokens=max_batch_tokens,
            lanes=self._lanes,
        )

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        """Score all pairs. One that does not fit into the memory of the device, even alone, fails with `out_of_memory`.

        Raises:
            PairTooLongError: One pair alone is over the token budget. Nothing was computed.
        """
        tokens = as_tokens(inputs)
        batches: list[LongArray] = list(
            np.arange(len(inputs), dtype=np.int64)[:, None]
            if one_by_one
            else self._forward.micro_batches(tokens, max_batch_tokens=self.max_batch_tokens)
        )
        run = partial(self._run, tokens)
        logits = np.full(len(inputs), np.nan, dtype=np.float32)
        scored: list[tuple[LongArray, torch.Tensor]] = []
        failures: dict[int, RowError] = {}
        splits = done = 0
        for outcome in self._lanes.map(run, self._lanes.even(batches)):
            scored += outcome.scored
            failures |= outcome.failures
            splits += outcome.splits
            done += sum(int(inputs.costs[rows].sum()) for rows in outcome.rows())
            on_progress(done)
        if scored:
            logits[np.concatenate([rows for rows, _ in scored])] = _fetch([one for _, one in scored])
        return PairScores(logits, failures, splits, self.execution)

    def _run(self, inputs: TokenInputs, rows: LongArray) -> _Outcome:
        """One micro-batch, in halves and halves of halves where memory asks for it."""
        waiting = deque([rows])
        done = _Outcome()
        while waiting:
            rows = waiting.popleft()
            tokens = self._forward.tokens(inputs, rows)
            if len(rows) > 1 and tokens > self._fitting_tokens:
                waiting.extendleft((rows[len(rows) // 2 :], rows[: len(rows) // 2]))
            elif (on_device := self._try(inputs, rows)) is not None:
                done.scored.append((rows, on_device))
            elif len(rows) == 1:
                done.failures[int(rows[0])] = _out_of_memory(int(inputs.costs[rows[0]]), self.device)
            else:
                done.splits += 1
                self._fitting_tokens = tokens // 2
                waiting.appendleft(rows)
        return done

    @property
    def execution(self) -> str:
        """How micro-batches are computed, for the report."""
        precision = str(self.dtype).removeprefix("torch.")
        where = f"{self._forward.name} in {precision} on {self.device.type}"
        execution = f"{where}, {self._fitting_tokens} tokens a micro-batch"
        return execution if self._lanes.count == 1 else f"{execution}, {self._lanes.count} at a time"

    def _try(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor | None:
        """Logits of a micro-batch; None where it does not fit into memory."""
        try:
            with torch.inference_mode():
                return self._forward(inputs, rows)
        except torch.OutOfMemoryError as error:
            logger.warning("micro-batch of %d pairs, %d tokens: %s", len(rows), inputs.costs[rows].sum(), error)
        # The traceback referred to the tensors of the failed pass until here.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _fetch(on_device: list[torch.Tensor]) -> FloatArray:
    logits: FloatArray = torch.cat(on_device).float().cpu().numpy()
    return logits


def _out_of_memory(tokens: int, device: torch.device) -> RowError:
    return RowError(
        f"This pair of {tokens} tokens does not fit into the memory of the device ({device}), even alone. "
        "Lower limits.max_pair_tokens or use a device with more memory.",
        reason_code="out_of_memory",
    )


_FORWARDS: Mapping[Kind, Callable[[PreTrainedModel, ModelPairEncoder, TokenInputs, torch.device], Forward]] = {
    Kind.PAIR: lambda model, encoder, trial, device: choose_forward(model, trial, device=device),
    Kind.TEXT: lambda model, encoder, trial, device: choose_forward(model, trial, device=device),
    Kind.PROMPT: lambda model, encoder, trial, device: choose_causal_forward(
        model, encoder.answer_ids, trial, device=device
    ),
}
"""How a model of each kind is run: the fastest pass that gives the right logits for the trial pairs."""


def load_scorer(
    folder: Path,
    encoder: ModelPairEncoder,
    *,
    recipe: Recipe,
    longest_pair: int | None = None,
    max_batch_tokens: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> CrossEncoderScorer:
    """Load the weights of a local model folder; `start_scorer` checks as well whether its scores make sense.

    `encoder` is that of the same folder. The model is run with the fastest pass that gives the
    logits of the plain one for the trial pairs.

    Raises:
        ModelError: The model cannot be used as asked; says why and what to do.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    model = load_model(folder, recipe=recipe, dtype=precision, device=where, trust_remote_code=trust_remote_code)
    check_ids(encoder.input_id_limit, num_embeddings(model), folder)
    trial = as_tokens(encode_text_pairs(encoder, TRIAL_PAIRS).inputs)
    forward = _FORWARDS[recipe.kind](model, encoder, trial, where)
    longest = longest_pair or encoder.max_pair_tokens
    return CrossEncoderScorer(
        forward,
        recipe=recipe,
        dtype=precision,
        device=where,
        max_batch_tokens=max_batch_tokens or find_batch_tokens(forward, longest_pair=longest, device=where),
        lanes=lanes_for(model, where),
    )
