"""Every way to run a model gives the logits of the padded one; a model that cannot take a faster way is padded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from families import CPU, LONGEST, PACKED, logits_of, packed_model, random_pairs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_logits import load, plain
from transformers import PreTrainedModel

from reranker_batch.core.inputs import TokenInputs, as_tokens
from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.encoding.canaries import TRIAL_PAIRS
from reranker_batch.model.forward.choosing import choose_forward
from reranker_batch.model.forward.kernels import PlainKernel, RunsKernel
from reranker_batch.model.forward.packed import PackedForward
from reranker_batch.model.forward.padded import Forward, PaddedForward
from reranker_batch.model.forward.pooling import mean_of_each
from reranker_batch.model.forward.prepacking import PrepackedLinear, prepack

GetFolder = Callable[[str], Path]
OWN_ATTENTION = {"deberta-v2"}
"""Families whose attention does not go through transformers' attention interface."""


@lru_cache
def both_ways(name: str, kernel: type) -> tuple[PaddedForward, PackedForward]:
    packed = packed_model(name)
    if kernel is RunsKernel:
        prepack(packed)
    return PaddedForward(packed_model(name), CPU), PackedForward(packed, CPU, kernel())


@lru_cache
def in_float64(name: str) -> PaddedForward:
    """What two passes in float32 are both compared with, since neither is the truth."""
    return PaddedForward(packed_model(name, torch.float64), CPU)


@pytest.mark.parametrize("kernel", [RunsKernel, PlainKernel])
@pytest.mark.parametrize("name", PACKED)
@given(
    lengths=st.lists(st.integers(1, LONGEST), min_size=1, max_size=20) | st.lists(st.just(37), min_size=1, max_size=9),
    seed=st.integers(0, 99),
    budget=st.integers(LONGEST, 900),
)
@settings(max_examples=15)
@example(lengths=[1], seed=0, budget=LONGEST)
@example(lengths=[1, LONGEST, 1, LONGEST], seed=1, budget=900)
def test_packed_equals_padded(name: str, kernel: type, lengths: list[int], seed: int, budget: int) -> None:
    """`PlainKernel` reads what a GPU's kernel is given, so that all but the kernel itself is that of a GPU."""
    padded, packed = both_ways(name, kernel)
    pairs = random_pairs(lengths, seed)
    plain, exact = logits_of(padded, pairs, 900), logits_of(in_float64(name), pairs, 900)
    rounding = float(np.abs(plain - exact).max())
    np.testing.assert_allclose(logits_of(packed, pairs, budget), exact, rtol=0, atol=1e-5 + rounding)


def test_every_family_that_can_be_is_run_without_padding(family: str, model_folder: GetFolder) -> None:
    encoder, scorer = load(model_folder(family))
    encoded = encode_text_pairs(encoder, [("abc", "def")])
    execution = scorer.score(encoded.inputs).execution
    assert execution.startswith("padded" if family in OWN_ATTENTION else "packed")


def trial(folder: Path) -> TokenInputs:
    return as_tokens(encode_text_pairs(load(folder)[0], TRIAL_PAIRS).inputs)


def chosen(model: PreTrainedModel, pairs: TokenInputs) -> Forward:
    return choose_forward(model, pairs, device=CPU)


def test_a_family_that_reads_positions_of_its_own_is_padded_and_the_log_says_so(
    model_folder: GetFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = model_folder("bert")
    model = plain(folder)[1]
    embed = model.bert.embeddings.forward

    def own_positions(input_ids: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1]) % model.config.max_position_embeddings
        embedded: torch.Tensor = embed(input_ids=input_ids, **inputs | {"position_ids": places[None]})
        return embedded

    model.bert.embeddings.forward = own_positions
    with caplog.at_level(logging.WARNING, "reranker_batch"):
        forward = chosen(model, trial(folder))
    assert forward.name == "padded"
    assert "pairs are padded, which is slower: this model cannot be run packed. Trial pair" in caplog.text
    pairs = random_pairs([5, 30, 64], seed=1)
    expected = logits_of(PaddedForward(plain(folder)[1], CPU), pairs, 500)
    np.testing.assert_allclose(logits_of(forward, pairs, 500), expected, rtol=0, atol=1e-5)


def test_attention_outside_of_the_interface_is_noticed(model_folder: GetFolder) -> None:
    model = plain(model_folder("deberta-v2"))[1]
    with pytest.raises(ModelError, match="attention interface"):
        PackedForward(model, CPU, RunsKernel())


@pytest.mark.parametrize("family", ["roberta", "modernbert-mean"])
def test_a_released_model_is_what_it_was(family: str, model_folder: GetFolder) -> None:
    folder = model_folder(family)
    model = plain(folder)[1]
    pairs = random_pairs([5, 30, 64, 64], seed=2)
    before = logits_of(PaddedForward(model, CPU), pairs, 500)
    packed = PackedForward(model, CPU, RunsKernel())
    logits_of(packed, pairs, 500)
    packed.release()
    assert logits_of(PaddedForward(model, CPU), pairs, 500).tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prepacked_layers_are_given_back_bit_for_bit(dtype: torch.dtype) -> None:
    model = packed_model("distilbert", dtype)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    pairs = random_pairs([5, 30, 64, 64], seed=2)
    logits = logits_of(PaddedForward(model, CPU), pairs, 500)
    prepacking = prepack(model)
    assert prepacking is not None
    assert isinstance(model.distilbert.transformer.layer[0].ffn.lin1, PrepackedLinear)
    prepacking.release()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert logits_of(PaddedForward(model, CPU), pairs, 500).tobytes() == logits.tobytes()


def test_linear_layers_and_their_activations_are_prepacked(model_folder: GetFolder) -> None:
    model = plain(model_folder("bert"))[1]
    assert prepack(model)
    layer = model.bert.encoder.layer[0]
    assert isinstance(layer.attention.self.query, PrepackedLinear)
    assert isinstance(layer.intermediate.intermediate_act_fn, torch.nn.Identity)
    states = torch.randn(3, 7, 32)
    plain_layer = plain(model_folder("bert"))[1].bert.encoder.layer[0]
    with torch.inference_mode():
        torch.testing.assert_close(layer.intermediate(states), plain_layer.intermediate(states), rtol=0, atol=1e-5)


def test_a_mean_is_exact_for_long_pairs_and_its_bits_do_not_depend_on_the_others() -> None:
    lengths = np.array([3, 8192, 1, 700], dtype=np.int64)
    states = torch.randn(int(lengths.sum()), 48, generator=torch.Generator().manual_seed(0)) + 1
    means = mean_of_each(states, lengths)
    exact = torch.stack([part.double().mean(0) for part in states.split(lengths.tolist())])
    torch.testing.assert_close(means.double(), exact, rtol=0, atol=5e-7)
    alone = mean_of_each(states[3 : 3 + 8192], lengths[1:2])
    assert torch.equal(alone[0], means[1])
    half = mean_of_each(states.bfloat16(), lengths)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=0, atol=0.01)
