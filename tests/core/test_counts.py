"""Counts of units add up, and only what a run writes is read as counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.counts import Counts

_NUMBER = st.integers(0, 2**40)
COUNTS = st.builds(
    Counts,
    queries=_NUMBER,
    candidates=_NUMBER,
    scored=_NUMBER,
    model_tokens=_NUMBER,
    dead_letters=st.dictionaries(st.sampled_from(["null_query", "null_document", "process_died"]), _NUMBER),
)


@given(st.lists(COUNTS, max_size=5))
def test_counts_add_up_field_by_field_and_reason_by_reason(parts: list[Counts]) -> None:
    total = sum(parts, Counts())
    assert total.queries == sum(part.queries for part in parts)
    assert total.model_tokens == sum(part.model_tokens for part in parts)
    assert total.num_dead_letters == sum(part.num_dead_letters for part in parts)
    for reason, count in total.dead_letters.items():
        assert count == sum(part.dead_letters.get(reason, 0) for part in parts)
    assert total == sum(reversed(parts), Counts())


@given(COUNTS)
def test_counts_come_back_from_json(counts: Counts) -> None:
    assert Counts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


@pytest.mark.parametrize(
    "change",
    [
        *({"queries": -1}, {"queries": "1"}, {"queries": True}, {"queries": 1.0}, {"queries": None}, {"surprise": 1}),
        *({"dead_letters": 3}, {"dead_letters": None}, {"dead_letters": []}),
        *({"dead_letters": {"null_query": -1}}, {"dead_letters": {"null_query": "1"}}),
    ],
    ids=str,
)
def test_what_no_run_writes_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not a count|not counted by reason|are expected"):
        Counts.from_dict(Counts().to_dict() | change)


@pytest.mark.parametrize("values", [None, [], 3, {}, {"queries": 1}], ids=str)
def test_counts_without_a_field_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="are expected"):
        Counts.from_dict(values)
