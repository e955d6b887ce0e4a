"""Every way to run a model gives the logits of the padded one; a model that cannot take a faster way is padded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_logits import load, plain
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from reranker_batch.core.pairs import EncodedPairs, encode_text_pairs
from reranker_batch.core.ragged import Ragged
from reranker_batch.errors import ModelError
from reranker_batch.model.canaries import TRIAL_PAIRS
from reranker_batch.model.choosing import choose_forward
from reranker_batch.model.forward import Forward, PaddedForward
from reranker_batch.model.packed import Layout, PackedForward
from reranker_batch.model.prepacking import PrepackedLinear, prepack

GetFolder = Callable[[str], Path]
CPU = torch.device("cpu")
OWN_ATTENTION = {"deberta-v2"}
"""Families whose attention does not go through transformers' attention interface."""


def random_pairs(lengths: list[int], seed: int) -> EncodedPairs:
    """Ids of so many tokens a pair, away from the special ones; the document begins in the middle."""
    rng = np.random.default_rng(seed)
    ids = Ragged.from_lists([rng.integers(10, 300, length) for length in lengths])
    count = np.array(lengths, dtype=np.int32)
    return EncodedPairs(ids, count // 2, count, count, np.zeros(len(lengths), dtype=np.bool_))


def logits_of(forward: Forward, pairs: EncodedPairs, budget: int) -> np.ndarray:
    logits = np.full(len(pairs.input_ids), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for rows in forward.micro_batches(pairs.input_ids, pairs.first_segment, max_batch_tokens=budget):
            logits[rows] = forward(pairs.input_ids, pairs.first_segment, rows).float().numpy()
    return logits


@lru_cache
def both_ways(folder: Path) -> tuple[PaddedForward, PackedForward]:
    packed = plain(folder)[1]
    prepack(packed)
    return PaddedForward(plain(folder)[1], CPU), PackedForward(packed, CPU)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"])
@given(
    lengths=st.lists(st.integers(2, 64), min_size=1, max_size=30), seed=st.integers(0, 99), budget=st.integers(64, 900)
)
def test_packed_equals_padded(family: str, model_folder: GetFolder, lengths: list[int], seed: int, budget: int) -> None:
    padded, packed = both_ways(model_folder(family))
    pairs = random_pairs(lengths, seed)
    np.testing.assert_allclose(logits_of(packed, pairs, budget), logits_of(padded, pairs, 900), rtol=0, atol=1e-5)


def test_every_family_that_can_be_is_run_without_padding(family: str, model_folder: GetFolder) -> None:
    encoder, scorer = load(model_folder(family))
    encoded = encode_text_pairs(encoder, [("abc", "def")])
    way = scorer.score(encoded.input_ids, encoded.first_segment).way
    assert way.startswith("padded" if family in OWN_ATTENTION else "packed")


def trial(folder: Path) -> EncodedPairs:
    return encode_text_pairs(load(folder)[0], TRIAL_PAIRS)


def chosen(model: PreTrainedModel, pairs: EncodedPairs) -> Forward:
    return choose_forward(model, pairs, device=CPU)


def test_a_family_that_reads_positions_of_its_own_is_padded_and_the_log_says_so(
    model_folder: GetFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = model_folder("bert")
    model = plain(folder)[1]
    embed = model.bert.embeddings.forward

    def own_positions(input_ids: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1]) % model.config.max_position_embeddings
        return embed(input_ids=input_ids, **inputs | {"position_ids": places[None]})

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
        PackedForward(model, CPU)


def test_a_released_model_is_what_it_was(model_folder: GetFolder) -> None:
    folder = model_folder("roberta")
    model = plain(folder)[1]
    pairs = random_pairs([5, 30, 64, 64], seed=2)
    before = logits_of(PaddedForward(model, CPU), pairs, 500)
    packed = PackedForward(model, CPU)
    logits_of(packed, pairs, 500)
    packed.release()
    assert logits_of(PaddedForward(model, CPU), pairs, 500).tobytes() == before.tobytes()


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


@pytest.mark.parametrize("window", [None, 64])
def test_the_kernel_of_a_gpu_takes_what_it_is_given(window: int | None) -> None:
    """Torch checks the call and works out the shape without a device; the numbers are a matter of the trial at load."""
    layout = Layout(np.array([40, 40, 20]), torch.device("cuda"))
    with FakeTensorMode():
        layout.bounds = torch.empty(4, dtype=torch.int32, device="cuda")
        states = torch.empty(100, 12, 32, dtype=torch.bfloat16, device="cuda")
        assert layout.attend(states, states, states, 0.1, window).shape == (100, 12, 32)
