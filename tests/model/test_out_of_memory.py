"""A micro-batch that does not fit into memory is halved; only a pair that does not fit alone fails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.packing import pack_micro_batches
from reranker_batch.core.ragged import LongArray, Ragged
from reranker_batch.model.checks.start import encode_text_pairs
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.recipes import RECIPES, choose_recipe
from reranker_batch.model.scorer import CrossEncoderScorer, load_scorer
from reranker_batch.model.source.files import resolve_model

CPU = torch.device("cpu")


class SmallDevice:
    """Has memory for `capacity` tokens, padding included; the logit of a pair is its first id."""

    name = "small"

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.passes: list[int] = []

    def micro_batches(self, inputs: TokenInputs, *, max_batch_tokens: int) -> Iterator[LongArray]:
        return pack_micro_batches(inputs.costs, max_batch_tokens=max_batch_tokens)

    def tokens(self, inputs: TokenInputs, rows: LongArray) -> int:
        return len(rows) * int(inputs.costs[rows].max())

    def __call__(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor:
        tokens = self.tokens(inputs, rows)
        if tokens > self.capacity:
            raise torch.OutOfMemoryError(f"tried to allocate {tokens}")
        self.passes.append(tokens)
        return torch.tensor([float(inputs.ids[row][0]) for row in rows])


def scorer_on(device: SmallDevice, *, max_batch_tokens: int) -> CrossEncoderScorer:
    return CrossEncoderScorer(
        device,
        recipe=next(iter(RECIPES.values())),
        dtype=torch.float32,
        device=CPU,
        max_batch_tokens=max_batch_tokens,
    )


def pairs_of(lengths: list[int]) -> TokenInputs:
    return TokenInputs.of_ids(Ragged.from_lists([[at] * length for at, length in enumerate(lengths)]))


@given(st.lists(st.integers(1, 60), max_size=80), st.integers(1, 400))
def test_every_pair_that_fits_alone_is_scored_and_the_others_are_refused(lengths: list[int], holds: int) -> None:
    scores = scorer_on(SmallDevice(holds), max_batch_tokens=300).score(pairs_of(lengths))
    too_large = {at for at, length in enumerate(lengths) if length > holds}
    assert set(scores.failures) == too_large
    assert {reason.reason_code for reason in scores.failures.values()} <= {"out_of_memory"}
    expected = [np.nan if at in too_large else at for at in range(len(lengths))]
    np.testing.assert_array_equal(scores.logits, np.array(expected, dtype=np.float32))


def test_the_budget_stays_lowered_so_that_memory_runs_out_once() -> None:
    device = SmallDevice(capacity=100)
    scorer = scorer_on(device, max_batch_tokens=400)
    pairs = pairs_of([10] * 90)
    assert scorer.score(pairs).oom_splits == 2
    assert scorer.score(pairs).oom_splits == 0
    assert max(device.passes) == 100


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(SmallDevice):
        def __call__(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        scorer_on(Broken(0), max_batch_tokens=400).score(pairs_of([3]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_that_is_too_small_gives_the_same_scores_in_smaller_pieces() -> None:
    files = resolve_model("builtin:mini")
    folder, recipe = files.folder, choose_recipe(files.folder, files.config(), model=files.name).recipe
    encoder = load_pair_encoder(folder, recipe=recipe)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "the", "river", "bank"]
    texts = [("who jumps", " ".join(words[at % 7 :] * (1 + at % 9))) for at in range(4000)]
    encoded = encode_text_pairs(encoder, texts)
    scorer = load_scorer(folder, encoder, recipe=recipe, dtype="float32", device="cuda", max_batch_tokens=1 << 19)
    whole = scorer.with_budget(1 << 14).score(encoded.inputs)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (256 << 20)) / total)
    try:
        pieces = scorer.score(encoded.inputs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert pieces.oom_splits > 0
    assert not pieces.failures
    np.testing.assert_allclose(pieces.logits, whole.logits, atol=1e-3)
