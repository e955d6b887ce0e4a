"""Inputs of a model travel as one object: rows are chosen, equal ones found, and moved as a table."""

from __future__ import annotations

from random import Random

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.ragged import Ragged

LISTS = st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=30)


def inputs_of(lists: list[list[int]]) -> TokenInputs:
    """Every input has values of its own in each array."""
    numbers = np.arange(len(lists), dtype=np.int64)
    ints = numbers.astype(np.int32)
    return TokenInputs(Ragged.from_lists(lists), numbers * 10, ints + 100, ints + 200)


def rows_of(inputs: TokenInputs) -> list[tuple[list[int], int, int, int]]:
    arrays = (inputs.groups.tolist(), inputs.first_type_tokens.tolist(), inputs.prefix_tokens.tolist())
    return list(zip([inputs.ids[at].tolist() for at in range(len(inputs))], *arrays, strict=True))


@given(LISTS, st.randoms(use_true_random=False))
def test_chosen_rows_keep_everything_that_belongs_to_them(lists: list[list[int]], random: Random) -> None:
    inputs = inputs_of(lists)
    places = [random.randrange(len(lists)) for _ in lists]
    taken = inputs.take(np.array(places, dtype=np.int64))
    assert rows_of(taken) == [rows_of(inputs)[at] for at in places]
    assert taken.costs.tolist() == [len(lists[at]) for at in places]


@given(LISTS)
def test_a_table_gives_the_same_inputs_back(lists: list[list[int]]) -> None:
    inputs = inputs_of(lists)
    table = inputs.to_arrow()
    assert rows_of(TokenInputs.from_arrow(table)) == rows_of(inputs)
    half = len(table) // 2
    in_chunks = pa.concat_tables([table.slice(0, half), table.slice(half)])
    assert rows_of(TokenInputs.from_arrow(in_chunks)) == rows_of(inputs)


def test_a_table_in_one_piece_is_not_copied() -> None:
    inputs = inputs_of([[1, 2], [3]])
    again = TokenInputs.from_arrow(inputs.to_arrow())
    assert np.shares_memory(again.ids.values, inputs.ids.values)
    assert np.shares_memory(again.prefix_tokens, inputs.prefix_tokens)


@given(LISTS)
def test_equal_inputs_are_found_in_order(lists: list[list[int]]) -> None:
    inputs = inputs_of(lists)
    rows, place = inputs.distinct()
    seen = [tuple(ids) for ids in lists]
    assert [seen[row] for row in rows.tolist()] == list(dict.fromkeys(seen))
    assert [seen[rows[at]] for at in place.tolist()] == seen
