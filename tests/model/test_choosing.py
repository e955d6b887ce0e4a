"""The faster way is taken only where it is right, in every precision; what cannot take it is run the plain way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import CPU, LONGEST, PACKED, logits_of, packed_model, random_pairs
from test_logits import load
from tiny_models import save_model
from wrong_kernels import WRONG, Wrong

from reranker_batch.model.forward.agreement import trial_logits
from reranker_batch.model.forward.choosing import choose_forward
from reranker_batch.model.forward.kernels import PlainKernel, RunsKernel
from reranker_batch.model.forward.packed import PackedForward
from reranker_batch.model.forward.padded import EvenForward, PaddedForward
from reranker_batch.model.forward.widening import in_float32
from reranker_batch.model.quiet import quiet_loading

GetFolder = Callable[[str], Path]
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
TRIAL = random_pairs([*range(3, LONGEST, 5), LONGEST, 17, 17, 1], seed=5)
MODERNBERT = "modernbert, last layer global"


@PRECISIONS
@pytest.mark.parametrize("name", PACKED)
def test_every_family_is_run_packed_in_every_precision(name: str, dtype: torch.dtype) -> None:
    assert choose_forward(packed_model(name, dtype), TRIAL, device=CPU).name == "packed"


@PRECISIONS
@pytest.mark.parametrize("fault", WRONG)
def test_a_model_is_not_run_with_a_wrong_kernel(fault: str, dtype: torch.dtype) -> None:
    """The next kernel is tried, and without one the pairs are padded."""
    wrong, right = Wrong(PlainKernel(), fault), PlainKernel()
    alone = choose_forward(packed_model(MODERNBERT, dtype), TRIAL, device=CPU, kernels=[wrong])
    assert alone.name == "padded"
    followed: Any = choose_forward(packed_model(MODERNBERT, dtype), TRIAL, device=CPU, kernels=[wrong, right])
    assert (followed.name, followed.kernel) == ("packed", right)


@dataclass
class OldDevice(PlainKernel):
    """As torch answers where the GPU is too old for its kernel, after as many calls as it is told."""

    calls: int

    def __call__(self, *inputs: Any, **more: Any) -> torch.Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
        return super().__call__(*inputs, **more)


@PRECISIONS
@pytest.mark.parametrize("calls", [0, 2, 9])
def test_a_kernel_that_the_device_lacks_is_replaced_by_one_that_needs_no_padding_either(
    calls: int, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model = packed_model("bert", dtype)
    with caplog.at_level(logging.WARNING, "reranker_batch"):
        forward: Any = choose_forward(model, TRIAL, device=CPU, kernels=[OldDevice(calls), RunsKernel()])
    assert forward.name == "packed"
    assert isinstance(forward.kernel, RunsKernel)
    assert (
        "attention is computed by runs of equal lengths, which is slower. RuntimeError: FlashAttention" in caplog.text
    )


def with_places(model: Any, share: float) -> Any:
    """A BERT whose embeddings depend a little on the place in the row, which is another one when pairs are packed."""
    embed = model.bert.embeddings.forward

    def placed(input_ids: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = embed(input_ids=input_ids, **inputs)
        return embedded + share * torch.arange(input_ids.shape[1], dtype=embedded.dtype).sin()[None, :, None]

    model.bert.embeddings.forward = placed
    return model


@PRECISIONS
def test_a_fault_much_smaller_than_the_spread_of_the_logits_is_seen_in_every_precision(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "reranker_batch"):
        assert choose_forward(with_places(packed_model("bert", dtype), 0.01), TRIAL, device=CPU).name == "padded"
    assert "pairs are padded, which is slower: this model cannot be run packed. Trial pair" in caplog.text
    assert choose_forward(with_places(packed_model("bert", dtype), 0), TRIAL, device=CPU).name == "packed"


def test_a_model_that_rounding_moves_further_is_scored_the_plain_way() -> None:
    """Its logits are large and their median is taken off, so that what is left of some of them is noise."""
    ill, plain = (packed_model(MODERNBERT) for _ in range(2))
    for model in (ill, plain):
        with torch.no_grad():
            model.classifier.weight *= 1e4
            model.classifier.bias -= float(np.median(trial_logits(PaddedForward(model, CPU), TRIAL)))
    forward = choose_forward(ill, TRIAL, device=CPU)
    assert forward.name == "one length at a time"
    np.testing.assert_allclose(
        trial_logits(forward, TRIAL), trial_logits(EvenForward(plain, CPU), TRIAL), rtol=1e-4, atol=1e-4
    )


class GELUActivation(torch.nn.Module):
    """Has the name of the one that is known, and another result."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(states) * 1.001


@PRECISIONS
def test_a_model_that_onednn_computes_differently_keeps_torchs_own_layers(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    model, plain = (packed_model("bert", dtype) for _ in range(2))
    for each in (model, plain):
        for layer in each.bert.encoder.layer:
            layer.intermediate.intermediate_act_fn = GELUActivation()
    with caplog.at_level(logging.WARNING, "reranker_batch"):
        forward = choose_forward(model, TRIAL, device=CPU)
    if dtype == torch.float32:
        assert "torch's own linear layers are used" in caplog.text
        assert isinstance(model.bert.encoder.layer[0].intermediate.intermediate_act_fn, GELUActivation)
    assert forward.name == "packed"
    expected = PackedForward(plain, CPU, RunsKernel())
    np.testing.assert_allclose(
        logits_of(forward, TRIAL, 500),
        logits_of(expected, TRIAL, 500),
        rtol=0,
        atol=1e-5 if dtype == torch.float32 else 0.05,
    )


@pytest.mark.parametrize("name", ["bert", "distilbert", MODERNBERT])
def test_a_model_of_half_precision_computes_in_float32_for_a_while_only(name: str) -> None:
    half = packed_model(name, torch.bfloat16)
    before = {key: weight.clone() for key, weight in half.state_dict().items()}
    wide = packed_model(name, torch.bfloat16).float()
    rough = trial_logits(PaddedForward(half, CPU), TRIAL)
    with in_float32(half):
        exact = trial_logits(PaddedForward(half, CPU), TRIAL)
    np.testing.assert_allclose(exact, trial_logits(PaddedForward(wide, CPU), TRIAL), rtol=0, atol=1e-5)
    assert np.abs(rough - exact).max() > 1e-4
    after = half.state_dict()
    assert all(torch.equal(after[key], before[key]) and after[key].dtype == before[key].dtype for key in before)
    assert trial_logits(PaddedForward(half, CPU), TRIAL).tobytes() == rough.tobytes()


def test_a_pass_that_fails_in_float32_leaves_the_weights_as_they_were() -> None:
    model = packed_model("bert", torch.bfloat16)
    model.bert.encoder.layer[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), in_float32(model):
        trial_logits(PaddedForward(model, CPU), TRIAL)
    assert {weight.dtype for weight in model.state_dict().values() if weight.is_floating_point()} == {torch.bfloat16}


def only_half(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    if args[0].dtype == torch.float32:
        raise RuntimeError("expected BFloat16, got Float")


def test_a_model_that_cannot_be_run_in_float32_is_run_without_padding_or_packing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = packed_model("bert", torch.bfloat16)
    model.bert.encoder.layer[0].register_forward_pre_hook(only_half)
    with caplog.at_level(logging.WARNING, "reranker_batch"):
        forward = choose_forward(model, TRIAL, device=CPU)
    assert forward.name == "one length at a time"
    assert "cannot be checked in float32" in caplog.text


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
@pytest.mark.parametrize(
    "setting",
    [{"return_dict": False}, {"chunk_size_feed_forward": 7}, {"output_hidden_states": True}, {"use_cache": True}],
    ids=str,
)
def test_settings_that_change_no_logit_change_none(
    family: str, setting: dict[str, Any], tmp_path: Path, model_folder: GetFolder
) -> None:
    with quiet_loading():
        _, scorer = load(save_model(family, tmp_path, **setting))
    _, expected = load(model_folder(family))
    scored = [each.score(TRIAL) for each in (scorer, expected)]
    assert scored[0].logits.tobytes() == scored[1].logits.tobytes()
    assert scored[0].execution == scored[1].execution


def test_the_kernel_of_a_cpu_is_that_of_runs() -> None:
    forward: Any = choose_forward(packed_model("bert"), TRIAL, device=CPU)
    assert isinstance(forward.kernel, RunsKernel)
