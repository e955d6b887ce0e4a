from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.packing import pack_equal_lengths, pack_micro_batches, pack_tokens
from reranker_batch.errors import PairTooLongError

LENGTHS = st.lists(st.integers(0, 64), max_size=80)


@given(LENGTHS, st.integers(64, 400))
def test_every_pair_once_and_no_micro_batch_over_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(pack_micro_batches(lengths, max_batch_tokens=budget))
    assert sorted(np.concatenate([*batches, np.empty(0, dtype=int)]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[position] for position in batch) <= budget


@given(LENGTHS, st.integers(64, 400))
def test_a_micro_batch_is_as_full_as_the_next_pair_allows(lengths: list[int], budget: int) -> None:
    batches = [batch.tolist() for batch in pack_micro_batches(lengths, max_batch_tokens=budget)]
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(lengths[batch[0]], 1) > budget


@given(LENGTHS)
def test_longest_go_first_and_equals_keep_their_order(lengths: list[int]) -> None:
    order = [position for batch in pack_micro_batches(lengths, max_batch_tokens=100) for position in batch]
    assert order == sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))


def test_a_pair_over_the_budget_is_refused_before_the_first_micro_batch() -> None:
    with pytest.raises(PairTooLongError, match="513 tokens is over batching.max_batch_tokens=512"):
        pack_micro_batches([3, 513], max_batch_tokens=512)


@given(LENGTHS, st.integers(64, 400))
def test_without_padding_a_micro_batch_costs_its_tokens(lengths: list[int], budget: int) -> None:
    batches = [batch.tolist() for batch in pack_tokens(lengths, max_batch_tokens=budget)]
    order = [position for batch in batches for position in batch]
    assert order == sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    tokens = [sum(lengths[position] for position in batch) for batch in batches]
    assert all(cost <= budget for cost in tokens)
    for cost, follower in zip(tokens, batches[1:], strict=False):
        assert cost + lengths[follower[0]] > budget


def test_without_padding_too_a_pair_over_the_budget_is_refused_before_the_first_micro_batch() -> None:
    with pytest.raises(PairTooLongError, match="513 tokens is over"):
        pack_tokens([3, 513], max_batch_tokens=512)


@given(LENGTHS, st.integers(64, 400))
def test_pairs_of_one_length_share_micro_batches_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = [batch.tolist() for batch in pack_equal_lengths(lengths, max_batch_tokens=budget)]
    order = [position for batch in batches for position in batch]
    assert order == sorted(range(len(lengths)), key=lambda position: (-lengths[position], position))
    for batch in batches:
        [length] = {lengths[position] for position in batch}
        assert len(batch) * length <= budget
    for one, other in pairwise(batches):
        assert lengths[one[0]] != lengths[other[0]] or (len(one) + 1) * lengths[one[0]] > budget


def test_one_length_at_a_time_too_a_pair_over_the_budget_is_refused_before_the_first_micro_batch() -> None:
    with pytest.raises(PairTooLongError, match="513 tokens is over"):
        pack_equal_lengths([3, 513], max_batch_tokens=512)
