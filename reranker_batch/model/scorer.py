"""One model in memory: inputs in, one logit a pair out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, Self, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.inputs import ModelInputs, TokenInputs, as_tokens
from reranker_batch.core.pairs import FloatArray, PairScores, encode_text_pairs, ignore_progress
from reranker_batch.core.ragged import offsets_of
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.errors import RowError
from reranker_batch.model.encoding.canaries import TRIAL_PAIRS
from reranker_batch.model.encoding.listwise import encode_text_requests, trial_requests
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder
from reranker_batch.model.forward.batch_tokens import find_batch_tokens, usual_batch_tokens
from reranker_batch.model.forward.choosing import choose_causal_forward, choose_forward, require_plain_vectors
from reranker_batch.model.forward.cosines import request_scores
from reranker_batch.model.forward.lanes import Lanes, lanes_for
from reranker_batch.model.forward.listwise import BlockInputs, ListForward
from reranker_batch.model.forward.padded import Forward
from reranker_batch.model.forward.passes import Outcome, Passes, PassForward, PassInputs
from reranker_batch.model.recipes import Kind, Recipe
from reranker_batch.model.source.loading import check_ids, choose_device, choose_dtype, load_model, num_embeddings


class ModelScorer(ABC, Generic[PassInputs]):
    """One copy of a model, and how its micro-batches are computed.

    Batching is deterministic: it depends on the inputs, the budget and the number of lanes, not on timing.
    """

    def __init__(
        self,
        forward: PassForward[PassInputs],
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
        self._passes = Passes(forward, device=device, max_batch_tokens=max_batch_tokens, lanes=lanes)

    @property
    def forward(self) -> PassForward[PassInputs]:
        """How the model is run."""
        return self._passes.forward

    def with_budget(self, max_batch_tokens: int) -> Self:
        """The same model under another token budget; the weights are shared."""
        return type(self)(
            self.forward,
            recipe=self.recipe,
            dtype=self.dtype,
            device=self.device,
            max_batch_tokens=max_batch_tokens,
            lanes=self._passes.lanes,
        )

    @abstractmethod
    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        """See `PairScorer`."""

    @property
    def execution(self) -> str:
        """How micro-batches are computed, for the report."""
        precision = str(self.dtype).removeprefix("torch.")
        where = f"{self.forward.name} in {precision} on {self.device.type}"
        execution = f"{where}, {self._passes.fitting_tokens} tokens a micro-batch"
        lanes = self._passes.lanes.count
        return execution if lanes == 1 else f"{execution}, {lanes} at a time"


class CrossEncoderScorer(ModelScorer[TokenInputs]):
    """Scores pairs with one copy of a model."""

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
        outcome = self._passes.run(as_tokens(inputs), one_by_one=one_by_one, on_progress=on_progress)
        logits = np.full(len(inputs), np.nan, dtype=np.float32)
        if outcome.scored:
            logits[np.concatenate([rows for rows, _ in outcome.scored])] = _fetch(outcome)
        failures = {row: _out_of_memory("pair", int(inputs.costs[row]), self.device) for row in outcome.failed}
        return PairScores(logits, failures, outcome.splits, self.execution)


class ListwiseScorer(ModelScorer[BlockInputs]):
    """Scores requests with one copy of a model that reads their documents together, in one or several blocks."""

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        """Score all requests. One with a block that does not fit into memory, even alone, fails with `out_of_memory`.

        A block over the token budget is computed alone.
        """
        requests = _as_requests(inputs)
        blocks = BlockInputs(requests.ids, requests.marks)
        outcome = self._passes.run(blocks, one_by_one=one_by_one, on_progress=on_progress)
        vectors = _vectors_of_blocks(blocks, outcome)
        logits = np.full(int(requests.sizes.sum()), np.nan, dtype=np.float32)
        failures: dict[int, RowError] = {}
        places = offsets_of(requests.sizes)
        for request, (first, stop) in enumerate(pairwise(requests.block_offsets.tolist())):
            large = [int(blocks.costs[block]) for block in range(first, stop) if block not in vectors]
            if large:
                failures[request] = _out_of_memory("request with a block", max(large), self.device)
            else:
                of_request = [vectors[block] for block in range(first, stop)]
                logits[places[request] : places[request + 1]] = request_scores(of_request)
        return PairScores(logits, failures, outcome.splits, self.execution)


def _as_requests(inputs: ModelInputs) -> RequestInputs:
    assert isinstance(inputs, RequestInputs), f"{type(inputs).__name__} was given to a scorer of requests"
    return inputs


def _vectors_of_blocks(blocks: BlockInputs, outcome: Outcome) -> dict[int, FloatArray]:
    """The vectors of each block that is done: of its documents, and last of its query."""
    if not outcome.scored:
        return {}
    rows = np.concatenate([of_batch for of_batch, _ in outcome.scored])
    ends = np.cumsum(blocks.marks.lengths[rows])[:-1]
    return dict(zip(rows.tolist(), np.split(_fetch(outcome), ends), strict=True))


def _fetch(outcome: Outcome) -> FloatArray:
    fetched: FloatArray = torch.cat([one for _, one in outcome.scored]).float().cpu().numpy()
    return fetched


def _out_of_memory(what: str, tokens: int, device: torch.device) -> RowError:
    return RowError(
        f"This {what} of {tokens} tokens does not fit into the memory of the device ({device}), even alone. "
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
) -> ModelScorer[Any]:
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
    if recipe.kind is Kind.LIST:
        return _list_scorer(model, encoder, recipe, where, max_batch_tokens)
    longest = longest_pair or encoder.max_pair_tokens
    return _pair_scorer(model, encoder, recipe, where, max_batch_tokens, longest)


def _pair_scorer(
    model: PreTrainedModel,
    encoder: ModelPairEncoder,
    recipe: Recipe,
    device: torch.device,
    max_batch_tokens: int | None,
    longest_pair: int,
) -> CrossEncoderScorer:
    trial = as_tokens(encode_text_pairs(encoder, TRIAL_PAIRS).inputs)
    forward = _FORWARDS[recipe.kind](model, encoder, trial, device)
    return CrossEncoderScorer(
        forward,
        recipe=recipe,
        dtype=model.dtype,
        device=device,
        max_batch_tokens=max_batch_tokens or find_batch_tokens(forward, longest_pair=longest_pair, device=device),
        lanes=lanes_for(model, device),
    )


def _list_scorer(
    model: PreTrainedModel,
    encoder: ModelPairEncoder,
    recipe: Recipe,
    device: torch.device,
    max_batch_tokens: int | None,
) -> ListwiseScorer:
    forward = ListForward(model, device)
    trial = _as_requests(encode_text_requests(encoder, trial_requests(encoder, reach=2 * (forward.window or 0))).inputs)
    require_plain_vectors(forward, model, BlockInputs(trial.ids, trial.marks), device=device)
    return ListwiseScorer(
        forward,
        recipe=recipe,
        dtype=model.dtype,
        device=device,
        max_batch_tokens=max_batch_tokens or usual_batch_tokens(device),
        lanes=lanes_for(cast(PreTrainedModel, model.base_model), device),
    )
