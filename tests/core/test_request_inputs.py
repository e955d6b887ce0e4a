"""Requests move, repeat and travel as the pairs' inputs do."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.inputs import input_of_logits, logit_places
from reranker_batch.core.ragged import LongArray, Ragged, offsets_of
from reranker_batch.core.request_inputs import RequestInputs

Block = tuple[list[int], list[int]]
BLOCKS = st.lists(st.integers(0, 5), min_size=2, max_size=6).map(lambda ids: (ids, [*range(len(ids))]))
REQUESTS = st.lists(st.lists(BLOCKS, min_size=1, max_size=3), max_size=6)


def inputs_of(requests: list[list[Block]]) -> RequestInputs:
    blocks = [block for request in requests for block in request]
    return RequestInputs(
        Ragged.from_lists(ids for ids, _ in blocks),
        Ragged.from_lists(marks for _, marks in blocks),
        offsets_of(np.array([len(request) for request in requests], dtype=np.int64)),
        np.arange(len(requests), dtype=np.int64),
    )


def read_back(inputs: RequestInputs) -> list[list[Block]]:
    bounds = zip(inputs.block_offsets[:-1].tolist(), inputs.block_offsets[1:].tolist(), strict=True)
    return [
        [(inputs.ids[at].tolist(), inputs.marks[at].tolist()) for at in range(start, stop)] for start, stop in bounds
    ]


@given(REQUESTS)
def test_costs_and_sizes_are_those_of_all_blocks(requests: list[list[Block]]) -> None:
    inputs = inputs_of(requests)
    assert inputs.costs.tolist() == [sum(len(ids) for ids, _ in request) for request in requests]
    assert inputs.sizes.tolist() == [sum(len(marks) - 1 for _, marks in request) for request in requests]
    assert len(input_of_logits(inputs)) == inputs.sizes.sum()


@given(REQUESTS, st.data())
def test_take_copies_whole_requests(requests: list[list[Block]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(requests) - 1), max_size=5)) if requests else []
    taken = inputs_of(requests).take(np.array(rows, dtype=np.int64))
    assert read_back(taken) == [requests[row] for row in rows]
    assert taken.groups.tolist() == rows


@given(REQUESTS)
def test_equal_requests_are_one(requests: list[list[Block]]) -> None:
    inputs = inputs_of(requests)
    rows, place = inputs.distinct()
    distinct = [requests[row] for row in rows]
    assert [distinct[at] for at in place] == requests
    assert all(one != other for at, one in enumerate(distinct) for other in distinct[:at])


@given(REQUESTS)
def test_requests_come_back_from_arrow(requests: list[list[Block]]) -> None:
    table = inputs_of(requests).to_arrow()
    assert table.num_rows == len(requests)
    halves = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    for given_table in (table, halves):
        assert read_back(RequestInputs.from_arrow(given_table)) == requests


@pytest.mark.parametrize("rows", [[], [1], [2, 0], [0, 1, 2]])
def test_places_of_logits(rows: list[int]) -> None:
    inputs = inputs_of([[([1, 2, 3], [0, 1, 2])], [([4, 5], [0, 1])], [([6, 7, 8, 9], [0, 1, 2, 3]), ([1, 1], [0, 1])]])
    places = {0: [0, 1], 1: [2], 2: [3, 4, 5, 6]}
    wanted: LongArray = np.array([place for row in rows for place in places[row]], dtype=np.int64)
    assert logit_places(inputs, np.array(rows, dtype=np.int64)).tolist() == wanted.tolist()
    assert input_of_logits(inputs).tolist() == [0, 0, 1, 2, 2, 2, 2]
