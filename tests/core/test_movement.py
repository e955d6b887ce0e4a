import json
import math
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from reranker_batch.core.distribution import Distribution
from reranker_batch.core.movement import MAX_MOVES, Move, Movement, movement_of
from reranker_batch.core.ragged import Ragged
from reranker_batch.core.rank_matches import Rankings, match_rankings

Query = tuple[list[int], list[int]]
"""Documents before and after."""

DOCUMENTS = st.lists(st.integers(0, 40), max_size=30, unique=True)
QUERIES = st.lists(st.tuples(DOCUMENTS, DOCUMENTS), max_size=8)


def movement(queries: list[Query], *, first: int = 0) -> Movement:
    before, after = (Ragged.from_lists([query[side] for query in queries]) for side in (0, 1))
    return movement_of(
        match_rankings(Rankings(before), Rankings(after)),
        pa.array([f"q{first + at}" for at in range(len(queries))], pa.large_string()),
        pa.array([f"d{document}" for document in after.values], pa.large_string()),
    )


@given(QUERIES, st.integers(0, 8), st.integers(0, 8))
def test_parts_add_up_to_the_whole_however_they_are_cut(queries: list[Query], one: int, two: int) -> None:
    cuts = sorted([0, one, two, len(queries)])
    parts = [movement(queries[start:stop], first=start) for start, stop in pairwise(cuts)]
    assert sum(parts, Movement()) == movement(queries)
    assert sum(reversed(parts), Movement()) == movement(queries)


@given(QUERIES)
def test_counts_are_those_of_sets(queries: list[Query]) -> None:
    moved = movement(queries)
    both = [query for query in queries if query[0] and query[1]]
    assert moved.queries == len(both)
    assert moved.queries_only_before == sum(bool(before and not after) for before, after in queries)
    assert moved.queries_only_after == sum(bool(after and not before) for before, after in queries)
    assert moved.changed_queries == sum(before[:10] != after[:10] for before, after in both)
    report = moved.to_dict()
    assert report["documents_out"] == sum(len(set(before) - set(after)) for before, after in both)
    assert report["documents_in"] == sum(len(set(after) - set(before)) for before, after in both)


@given(QUERIES)
def test_the_largest_moves_are_the_first_of_all(queries: list[Query]) -> None:
    moves = [
        Move(f"q{at}", f"d{document}", before.index(document) + 1, after.index(document) + 1)
        for at, (before, after) in enumerate(queries)
        for document in set(before) & set(after)
    ]
    expected = sorted((move for move in moves if move.places), key=lambda move: move.order)
    moved = movement(queries)
    assert list(moved.largest_moves) == expected[:MAX_MOVES]
    assert moved.moved_up == sum(move.places > 0 for move in moves)
    assert moved.moved_down == sum(move.places < 0 for move in moves)
    assert moved.places.num_values == len(moves)


def test_the_report_has_plain_numbers_and_survives_json() -> None:
    moved = movement([([1, 2, 3], [3, 1, 2]), ([1, 2], [1, 2]), ([1], [])])
    report = json.loads(json.dumps(moved.to_dict()))
    assert report["queries"] == 2
    assert report["changed_share"] == 0.5
    assert report["overlap_at_10"]["mean"] == 1
    assert report["kendall_tau_b"]["mean"] == pytest.approx((-1 / 3 + 1) / 2)
    assert report["largest_moves"][0] == {
        "query_id": "q0",
        "doc_id": "d3",
        "rank_before": 3,
        "rank_after": 1,
        "places": 2,
    }
    assert TypeAdapter(Movement).validate_json(json.dumps(asdict(moved))) == moved


def test_nothing_to_compare_has_no_share_and_no_mean() -> None:
    report = movement([([1], []), ([], [])]).to_dict()
    assert report["changed_share"] is None
    assert report["rank_biased_overlap"]["mean"] is None
    assert json.dumps(report)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=30), st.integers(0, 30))
def test_a_distribution_adds_up_exactly(values: list[float], cut: int) -> None:
    edges, array = (-1.0, 0.0, 1.0), np.array(values)
    whole = Distribution.of(array, edges)
    assert Distribution.of(array[cut:], edges) + Distribution.of(array[:cut], edges) == whole
    numbers = [value for value in values if not math.isnan(value)]
    assert whole.num_values == len(numbers)
    assert whole.counts[0] == sum(value < -1 for value in numbers)
    assert whole.counts[2] == sum(0 <= value < 1 for value in numbers)
    if numbers:
        assert whole.mean == pytest.approx(math.fsum(numbers) / len(numbers), abs=1e-9)
