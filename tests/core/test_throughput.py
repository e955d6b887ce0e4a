"""Pairs over time: none is lost, and the intervals stay few."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.throughput import MAX_INTERVALS, Throughput

units = st.tuples(st.integers(0, 10**6), st.floats(0, 1e4), st.floats(-1, 1e6))


@given(st.lists(units, max_size=30))
def test_every_pair_is_in_one_of_a_few_intervals(given_: list[tuple[int, float, float]]) -> None:
    throughput = Throughput()
    for pairs, seconds, until in given_:
        throughput.add(pairs, seconds=seconds, until=until)
    assert sum(throughput.pairs) == sum(pairs for pairs, _, _ in given_)
    assert min(throughput.pairs, default=0) >= 0
    assert len(throughput.pairs) <= MAX_INTERVALS
    latest = max((until for _, _, until in given_), default=0)
    assert latest < throughput.interval_s * MAX_INTERVALS


def test_a_unit_is_spread_over_the_time_that_it_took() -> None:
    throughput = Throughput()
    throughput.add(200, seconds=4.0, until=4.5)
    throughput.add(10, seconds=0.0, until=7.2)
    assert throughput.pairs == [25, 50, 50, 50, 25, 0, 0, 10]


def test_intervals_double_when_they_are_too_many() -> None:
    throughput = Throughput()
    throughput.add(59, seconds=59.0, until=59.0)
    throughput.add(61, seconds=0.0, until=60.0)
    assert throughput.interval_s == 2.0
    assert throughput.pairs == [2] * 29 + [1, 61]
