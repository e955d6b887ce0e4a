"""Micro-batches of a CPU model side by side: the same logits, and nothing of it is seen outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_logits import load, plain
from test_out_of_memory import SmallDevice, pairs_of

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.core.ragged import LongArray
from reranker_batch.model.forward.lanes import Lanes, lanes_for
from reranker_batch.model.recipes import RECIPES
from reranker_batch.model.scorer import CrossEncoderScorer

GetFolder = Callable[[str], Path]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def three() -> Lanes:
    return Lanes(3, 1)


def scorer_on(device: SmallDevice, lanes: Lanes) -> CrossEncoderScorer:
    recipe = next(iter(RECIPES.values()))
    return CrossEncoderScorer(device, recipe=recipe, dtype=torch.float32, device=CPU, max_batch_tokens=300, lanes=lanes)


@given(lengths=st.lists(st.integers(1, 60), max_size=80), holds=st.integers(1, 400), one_by_one=st.booleans())
def test_every_pair_gets_its_own_logit(three: Lanes, lengths: list[int], holds: int, one_by_one: bool) -> None:
    pairs = pairs_of(lengths)
    alone, in_lanes = (
        scorer_on(SmallDevice(holds), lanes).score(pairs, one_by_one=one_by_one) for lanes in (Lanes(), three)
    )
    assert in_lanes.failures.keys() == alone.failures.keys()
    np.testing.assert_array_equal(in_lanes.logits, alone.logits)


def test_one_by_one_puts_every_pair_in_a_pass_of_its_own() -> None:
    device = SmallDevice(1000)
    scorer_on(device, Lanes()).score(pairs_of([5, 7, 7, 1]), one_by_one=True)
    assert device.passes == [5, 7, 7, 1]


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta-v2"])
def test_a_model_gives_the_same_bytes_in_every_run(
    family: str, three: Lanes, model_folder: GetFolder, pairs: list[tuple[str, str]]
) -> None:
    encoder, single = load(model_folder(family))
    encoded = encode_text_pairs(encoder, pairs)
    scorer = CrossEncoderScorer(
        single.forward, recipe=single.recipe, dtype=single.dtype, device=CPU, max_batch_tokens=512, lanes=three
    )
    first, second = (scorer.score(encoded.inputs) for _ in range(2))
    assert first.logits.tobytes() == second.logits.tobytes()
    assert first.execution.endswith(", 3 at a time")
    expected = single.score(encoded.inputs).logits
    np.testing.assert_allclose(first.logits, expected, rtol=0, atol=1e-5)


def test_lanes_run_at_the_same_time() -> None:
    meeting = Barrier(2)
    assert len(set(Lanes(2, 1).map(lambda _: meeting.wait(60), range(2)))) == 2


def test_an_error_of_a_lane_is_raised() -> None:
    class Broken(SmallDevice):
        def __call__(self, inputs: TokenInputs, rows: LongArray) -> torch.Tensor:
            raise RuntimeError("not a number")

    with pytest.raises(RuntimeError, match="not a number"):
        scorer_on(Broken(0), Lanes(2, 1)).score(pairs_of([3] * 400))


@given(sizes=st.lists(st.integers(1, 9), max_size=20))
def test_the_last_wave_is_cut_and_nothing_is_lost(three: Lanes, sizes: list[int]) -> None:
    batches = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]) if sizes else []
    pieces = three.even(batches)
    np.testing.assert_array_equal(np.concatenate(pieces or [np.empty(0, dtype=np.int64)]), np.arange(sum(sizes)))
    whole = len(batches) - 3
    assert [len(piece) for piece in pieces[: max(0, whole)]] == sizes[: max(0, whole)]
    assert all(len(piece) <= 3 for piece in pieces[max(0, whole) :])


def test_threads_are_those_of_the_lanes_alone() -> None:
    before = torch.get_num_threads()
    seen = []
    try:
        torch.set_num_threads(4)
        inside = set(Lanes(2, 3).map(lambda _: torch.get_num_threads(), range(8)))
        later = Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert (inside, torch.get_num_threads(), seen) == ({3}, 4, [4])
    finally:
        torch.set_num_threads(before)


def test_a_model_whose_passes_leave_traces_has_one_lane(model_folder: GetFolder) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(16)
        model = plain(model_folder("bert"))[1]
        assert lanes_for(model, CPU).count == 8
        assert lanes_for(model, torch.device("cuda")).count == 1
        model.bert.rope_type = "dynamic"
        assert lanes_for(model, CPU).count == 1
        foreign = type("Foreign", (torch.nn.Module,), {"__module__": "transformers_modules.somebody.modeling"})()
        assert lanes_for(foreign, CPU).count == 1
    finally:
        torch.set_num_threads(before)
