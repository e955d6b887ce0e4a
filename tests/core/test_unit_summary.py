"""Summaries of units add up, and refuse bins that are not theirs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.distribution import Distribution
from reranker_batch.core.unit_summary import MAX_EXAMPLES, DeadLetterExample, UnitSummary

Pair = tuple[float, int, int]
pairs = st.tuples(st.floats(0, 1, width=32), st.integers(0, 100_000), st.integers(0, 7))
examples = st.builds(
    DeadLetterExample,
    st.sampled_from(["null_query", "process_died"]),
    st.sampled_from(["a", "b"]),
    st.integers(0, 30),
    st.text(max_size=3),
    st.text(max_size=3),
)


def summary_of(rows: list[Pair]) -> UnitSummary:
    return UnitSummary.of(
        np.array([row[0] for row in rows], dtype=np.float32),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[2] for row in rows], dtype=np.uint8),
    )


@given(st.lists(pairs), st.lists(pairs))
def test_summaries_of_parts_add_up_to_that_of_the_whole(first: list[Pair], second: list[Pair]) -> None:
    whole = summary_of(first + second)
    assert summary_of(first) + summary_of(second) == whole == summary_of(second) + summary_of(first)
    assert whole.truncation == {
        name: sum(1 for row in first + second if row[2] & bit)
        for name, bit in {"query": 1, "document": 2, "pair": 4}.items()
    }
    assert all(histogram.count == len(first + second) for histogram in whole.histograms.values())


@given(st.lists(examples, max_size=40), st.integers(0, 40))
def test_the_examples_do_not_depend_on_how_units_are_grouped(given_: list[DeadLetterExample], cut: int) -> None:
    parts = [UnitSummary(examples=tuple(given_[:cut])), UnitSummary(examples=tuple(given_[cut:]))]
    shown = (UnitSummary() + parts[1] + parts[0]).examples
    for reason in {example.reason_code for example in given_}:
        of_reason = sorted(example for example in given_ if example.reason_code == reason)
        assert [example for example in shown if example.reason_code == reason] == of_reason[:MAX_EXAMPLES]


@given(st.lists(pairs), st.lists(examples, max_size=3))
def test_a_summary_survives_json(rows: list[Pair], some: list[DeadLetterExample]) -> None:
    summary = replace(summary_of(rows), examples=tuple(some))
    assert UnitSummary.from_dict(json.loads(json.dumps(asdict(summary)))) == summary


@pytest.mark.parametrize("counts", [(1,), (0, 0, -1)])
def test_other_bins_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="other bins"):
        UnitSummary(relevance_score=Distribution((0.5, 0.6), counts))
