import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.ragged import Ragged

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=8)


@given(LISTS)
def test_lists_come_back_as_they_went_in(lists: list[list[int]]) -> None:
    ragged = Ragged.from_lists(lists)
    assert [ragged[position].tolist() for position in range(len(ragged))] == lists
    assert ragged.lengths.tolist() == [len(ids) for ids in lists]


@given(LISTS)
def test_arrow_and_back_changes_nothing(lists: list[list[int]]) -> None:
    ragged = Ragged.from_arrow(Ragged.from_lists(lists).to_arrow())
    assert [ragged[position].tolist() for position in range(len(ragged))] == lists


@given(LISTS, st.integers(0, 7))
def test_head_keeps_the_first_values(lists: list[list[int]], most: int) -> None:
    ragged = Ragged.from_lists(lists)
    kept = ragged.head(np.minimum(ragged.lengths, most))
    assert [kept[position].tolist() for position in range(len(kept))] == [ids[:most] for ids in lists]


@given(LISTS)
def test_distinct_finds_each_list_once(lists: list[list[int]]) -> None:
    ragged = Ragged.from_lists(lists)
    firsts, place = ragged.distinct()
    kept = ragged.take(firsts)
    assert [kept[at].tolist() for at in place] == lists
    assert len({tuple(kept[at].tolist()) for at in range(len(kept))}) == len(kept)
