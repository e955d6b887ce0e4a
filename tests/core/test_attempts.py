"""Isolation without processes: a death is an exception that the next attempt knows nothing of but by the ledger."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.isolation import MAX_DEATHS, Approach, CarefulScorer, Ledger
from reranker_batch.core.pairs import PairScorer, PairScores
from reranker_batch.core.ragged import IntArray, Ragged
from reranker_batch.errors import ReplicaError, RowError

UNIT = "00000-0000000000"


class DeathError(Exception):
    """Stands for the end of a process."""


class FragileScorer:
    """The score of a pair is its first id; it dies of some."""

    def __init__(self, deadly: set[int]) -> None:
        self._deadly = deadly

    def score(self, input_ids: Ragged, first_segment: IntArray, *, one_by_one: bool = False) -> PairScores:
        firsts = [int(input_ids[at][0]) for at in range(len(input_ids))]
        if self._deadly & set(firsts):
            raise DeathError
        return PairScores(np.array(firsts, dtype=np.float32))


def pairs(count: int) -> Ragged:
    return Ragged.from_lists([[at] * (1 + at % 7) for at in range(count)])


def attempt(ledger: Ledger, scorer: PairScorer, inputs: Ragged) -> PairScores:
    approach = ledger.begin(UNIT)
    if not approach.is_plain:
        scorer = CarefulScorer(scorer, approach, lambda rows: ledger.take(UNIT, rows))
    scores = scorer.score(inputs, np.zeros(len(inputs), dtype=np.int32))
    ledger.end(UNIT)
    return scores


def until_done(ledger: Ledger, scorer: PairScorer, inputs: Ragged) -> PairScores:
    while True:
        try:
            return attempt(ledger, scorer, inputs)
        except DeathError:
            continue


def new_ledger() -> Ledger:
    return Ledger(max_deaths=1000, max_starts=3)


@given(st.integers(1, 400), st.data())
def test_deadly_pairs_are_refused_and_all_others_scored(count: int, data: st.DataObject) -> None:
    deadly = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    ledger = new_ledger()
    scores = until_done(ledger, FragileScorer(deadly), pairs(count))
    assert set(scores.refused) == deadly
    expected = [np.nan if at in deadly else at for at in range(count)]
    np.testing.assert_array_equal(scores.logits, np.array(expected, dtype=np.float32))
    assert ledger.attempts().get(UNIT, 1) <= 1 + bool(deadly) + 3 * len(deadly)
    assert {reason.reason_code for reason in scores.refused.values()} <= {"process_died"}


def test_a_process_that_dies_for_its_own_reasons_costs_no_pair() -> None:
    """Killed from outside three times, each time with something else in flight."""
    ledger = new_ledger()
    for rows in [(), (1, 2, 3), (2,)]:
        ledger.begin(UNIT)
        if rows:
            ledger.take(UNIT, rows)
    scores = attempt(ledger, FragileScorer(set()), pairs(9))
    assert scores.refused == {}
    assert ledger.attempts() == {UNIT: 4}


def test_a_unit_that_is_read_again_after_it_ended_has_not_died_and_leaves_out_what_is_known() -> None:
    """Ray computes a finished block again when the node that held it is lost."""
    ledger = new_ledger()
    until_done(ledger, FragileScorer({3}), pairs(9))
    approach = ledger.begin(UNIT)
    assert set(approach.refused) == {3}
    ledger.end(UNIT)
    assert ledger.begin(UNIT) == approach


def test_an_error_of_the_model_is_the_reason() -> None:
    ledger = new_ledger()
    for rows in [(), (7, 8), (7,), (7,)]:
        ledger.begin(UNIT)
        ledger.take(UNIT, rows)
        ledger.fail(UNIT, "ValueError: no such id")
    (refused,) = ledger.begin(UNIT).refused.items()
    assert refused[0] == 7
    assert refused[1].reason_code == "scoring_failed"
    assert "ValueError: no such id" in str(refused[1])


def test_reasons_of_the_scorer_inside_keep_their_pair() -> None:
    class OddScorer(FragileScorer):
        def score(self, input_ids: Ragged, first_segment: IntArray, *, one_by_one: bool = False) -> PairScores:
            scores = super().score(input_ids, first_segment)
            odd = {at: RowError("odd", reason_code="odd") for at in range(len(input_ids)) if scores.logits[at] % 2}
            return PairScores(scores.logits, odd, oom_splits=1)

    announced: list[tuple[int, ...]] = []
    careful = CarefulScorer(OddScorer(set()), Approach(is_plain=False, alone=(4, 3)), announced.append)
    scores = careful.score(pairs(9), np.zeros(9, dtype=np.int32))
    assert set(scores.refused) == {1, 3, 5, 7}
    assert announced[:2] == [(4,), (3,)]
    assert sorted(at for rows in announced for at in rows) == list(range(9))
    assert scores.oom_splits == len(announced)


def begin(ledger: Ledger, unit_id: str, *, times: int) -> None:
    for _ in range(times):
        ledger.begin(unit_id)


def test_a_unit_is_given_up_by_name_after_its_share_of_deaths() -> None:
    ledger = new_ledger()
    begin(ledger, UNIT, times=MAX_DEATHS + 1)
    with pytest.raises(ReplicaError, match=f"Unit {UNIT} is given up: {MAX_DEATHS + 1} attempts") as caught:
        ledger.begin(UNIT)
    assert caught.value.unit_id == UNIT
    assert ledger.verdict() is caught.value


def test_deaths_all_over_a_run_end_it() -> None:
    ledger = Ledger(max_deaths=3, max_starts=3)
    for unit_id in ("a", "b", "c"):
        begin(ledger, unit_id, times=2)
    ledger.begin("d")
    with pytest.raises(ReplicaError, match="died 4 times in this run, the last one on unit d"):
        ledger.begin("d")


def test_a_replica_that_never_starts_is_given_up_with_what_it_said() -> None:
    ledger = new_ledger()
    for _ in range(3):
        ledger.start("replica")
        ledger.fail_start("replica", "OutOfMemoryError: 80 GB")
    with pytest.raises(ReplicaError, match="could not start in 3 attempts: OutOfMemoryError: 80 GB"):
        ledger.start("replica")


def test_a_replica_may_start_again_as_often_as_it_has_started() -> None:
    ledger = new_ledger()
    for _ in range(9):
        ledger.start("replica")
        ledger.started("replica")
    assert ledger.verdict() is None
