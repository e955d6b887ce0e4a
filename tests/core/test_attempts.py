"""Isolation without processes: a death is an exception that the next attempt knows nothing of but by the tracker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.attempts import MAX_DEATHS, AttemptTracker
from reranker_batch.core.inputs import ModelInputs, TokenInputs, as_tokens
from reranker_batch.core.isolation import IsolatingScorer, ScoringPlan
from reranker_batch.core.pairs import PairScorer, PairScores
from reranker_batch.core.ragged import Ragged
from reranker_batch.errors import ReplicaError, RowError
from reranker_batch.job.engine import standstill

UNIT, REPLICA = "00000-0000000000", "replica"


class DeathError(Exception):
    """Stands for the end of a process."""


class FragileScorer:
    """The score of a pair is its first id; it dies of some."""

    def __init__(self, deadly: set[int]) -> None:
        self._deadly = deadly

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        ids = as_tokens(inputs).ids
        firsts = [int(ids[at][0]) for at in range(len(ids))]
        if self._deadly & set(firsts):
            raise DeathError
        return PairScores(np.array(firsts, dtype=np.float32))


def pairs(count: int) -> TokenInputs:
    return TokenInputs.of_ids(Ragged.from_lists([[at] * (1 + at % 7) for at in range(count)]))


def attempt(tracker: AttemptTracker, scorer: PairScorer, inputs: ModelInputs) -> PairScores:
    plan = tracker.begin(UNIT, REPLICA)
    if not plan.is_whole:
        scorer = IsolatingScorer(scorer, plan, lambda rows: tracker.announce(UNIT, rows))
    scores = scorer.score(inputs)
    tracker.end(UNIT)
    return scores


def until_done(tracker: AttemptTracker, scorer: PairScorer, inputs: ModelInputs) -> PairScores:
    while True:
        try:
            return attempt(tracker, scorer, inputs)
        except DeathError:
            continue


def new_tracker() -> AttemptTracker:
    return AttemptTracker(max_deaths=1000)


@given(st.integers(1, 400), st.data())
def test_deadly_pairs_are_refused_and_all_others_scored(count: int, data: st.DataObject) -> None:
    deadly = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    tracker = new_tracker()
    scores = until_done(tracker, FragileScorer(deadly), pairs(count))
    assert set(scores.failures) == deadly
    expected = [np.nan if at in deadly else at for at in range(count)]
    np.testing.assert_array_equal(scores.logits, np.array(expected, dtype=np.float32))
    assert tracker.attempts().get(UNIT, 1) <= 1 + bool(deadly) + 3 * len(deadly)
    assert {reason.reason_code for reason in scores.failures.values()} <= {"process_died"}


def test_a_process_that_dies_for_its_own_reasons_costs_no_pair() -> None:
    """Killed from outside three times, each time with something else in flight."""
    tracker = new_tracker()
    for rows in [(), (1, 2, 3), (2,)]:
        tracker.begin(UNIT, REPLICA)
        if rows:
            tracker.announce(UNIT, rows)
    scores = attempt(tracker, FragileScorer(set()), pairs(9))
    assert scores.failures == {}
    assert tracker.attempts() == {UNIT: 4}


def test_a_unit_that_is_read_again_after_it_ended_has_not_died_and_leaves_out_what_is_known() -> None:
    """Ray computes a finished block again when the node that held it is lost."""
    tracker = new_tracker()
    until_done(tracker, FragileScorer({3}), pairs(9))
    plan = tracker.begin(UNIT, REPLICA)
    assert set(plan.failures) == {3}
    tracker.end(UNIT)
    assert tracker.begin(UNIT, REPLICA) == plan


def test_an_error_of_the_model_is_the_reason() -> None:
    tracker = new_tracker()
    for rows in [(), (7, 8), (7,), (7,)]:
        tracker.begin(UNIT, REPLICA)
        tracker.announce(UNIT, rows)
        tracker.fail(UNIT, "ValueError: no such id")
    (failure,) = tracker.begin(UNIT, REPLICA).failures.items()
    assert failure[0] == 7
    assert failure[1].reason_code == "scoring_failed"
    assert "ValueError: no such id" in str(failure[1])


def test_reasons_of_the_scorer_inside_keep_their_pair() -> None:
    class OddScorer(FragileScorer):
        def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
            scores = super().score(inputs)
            odd = {at: RowError("odd", reason_code="odd") for at in range(len(inputs)) if scores.logits[at] % 2}
            return PairScores(scores.logits, odd, oom_splits=1)

    announced: list[tuple[int, ...]] = []
    careful = IsolatingScorer(OddScorer(set()), ScoringPlan(is_whole=False, alone=(4, 3)), announced.append)
    scores = careful.score(pairs(9))
    assert set(scores.failures) == {1, 3, 5, 7}
    assert announced[:2] == [(4,), (3,)]
    assert sorted(at for rows in announced for at in rows) == list(range(9))
    assert scores.oom_splits == len(announced)


def begin(tracker: AttemptTracker, unit_id: str, *, times: int) -> None:
    for _ in range(times):
        tracker.begin(unit_id, REPLICA)


def test_a_unit_is_given_up_by_name_after_its_share_of_deaths() -> None:
    tracker = new_tracker()
    begin(tracker, UNIT, times=MAX_DEATHS + 1)
    with pytest.raises(ReplicaError, match=f"Unit {UNIT} is given up: {MAX_DEATHS + 1} attempts") as caught:
        tracker.begin(UNIT, REPLICA)
    assert caught.value.unit_id == UNIT
    assert tracker.fatal_error() is caught.value


def test_deaths_all_over_a_run_end_it() -> None:
    tracker = AttemptTracker(max_deaths=3)
    for unit_id in ("a", "b", "c"):
        begin(tracker, unit_id, times=2)
    tracker.begin("d", REPLICA)
    with pytest.raises(ReplicaError, match="died 4 times in this run, the last one on unit d"):
        tracker.begin("d", REPLICA)


def test_a_replica_that_never_starts_is_given_up_with_what_it_said() -> None:
    tracker = new_tracker()
    for _ in range(3):
        tracker.start(REPLICA, "node")
        tracker.fail_start(REPLICA, "OutOfMemoryError: 80 GB")
    with pytest.raises(ReplicaError, match="could not start in 3 attempts: OutOfMemoryError: 80 GB"):
        tracker.start(REPLICA, "node")


def test_a_replica_may_start_again_as_often_as_it_has_started() -> None:
    tracker = new_tracker()
    for _ in range(9):
        tracker.start(REPLICA, "node")
        tracker.started(REPLICA)
    assert tracker.fatal_error() is None


def test_nodes_that_go_away_while_a_model_loads_do_not_count_as_a_model_that_cannot_load() -> None:
    tracker = new_tracker()
    for number in range(9):
        tracker.start(REPLICA, f"node {number}")
    tracker.started(REPLICA)
    assert tracker.fatal_error() is None


def test_a_model_that_cannot_load_is_given_up_on_whatever_node_it_tries() -> None:
    tracker = new_tracker()
    for number in range(3):
        tracker.start(REPLICA, f"node {number}")
        tracker.fail_start(REPLICA, "OSError: no such file")
    with pytest.raises(ReplicaError, match="OSError: no such file"):
        tracker.start(REPLICA, "node 3")


def test_losing_nodes_while_a_model_loads_is_bounded_too() -> None:
    tracker = new_tracker()
    for number in range(17):
        tracker.start(REPLICA, f"node {number}")
    with pytest.raises(ReplicaError, match="lost its node 17 times"):
        tracker.start(REPLICA, "the last")


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def stalled(tracker: AttemptTracker, *, is_alive: bool = True) -> str:
    """What is said of a run that may be silent for ten seconds and start for a hundred."""
    error = standstill(tracker.pulse(), no_progress_timeout_s=10, start_timeout_s=100, is_alive=lambda _: is_alive)
    return "" if error is None else str(error)


def test_a_long_unit_moves_as_long_as_its_replica_says_so() -> None:
    clock = Clock()
    tracker = AttemptTracker(9, clock=clock)
    tracker.start(REPLICA, "node")
    tracker.started(REPLICA)
    tracker.begin(UNIT, REPLICA)
    for scored in range(50):
        clock.now += 9
        assert stalled(tracker) == ""
        tracker.report(UNIT, scored)
    assert tracker.pulse().scored == 49
    clock.now += 11
    assert stalled(tracker).startswith(
        f"The replica that scores unit {UNIT} has scored nothing for runtime.no_progress"
    )


def test_other_replicas_do_not_hide_one_that_stands_still() -> None:
    clock = Clock()
    tracker = AttemptTracker(9, clock=clock)
    tracker.started("a")
    tracker.begin("unit a", "a")
    tracker.begin("unit b", "b")
    for _ in range(2):
        clock.now += 9
        tracker.report("unit b", 1)
    assert "unit a" in stalled(tracker)
    assert stalled(tracker, is_alive=False) == "", "the unit of a lost node waits for another replica"


def test_starting_has_a_limit_of_its_own() -> None:
    clock = Clock()
    tracker = AttemptTracker(9, clock=clock)
    clock.now += 60
    assert (stalled(tracker), tracker.pulse().phase) == ("", "starting")
    tracker.start(REPLICA, "node")
    clock.now += 60
    assert (stalled(tracker), tracker.pulse().phase) == ("", "loading the model")
    clock.now += 60
    assert "No replica came up within runtime.start_timeout_s=100 seconds" in stalled(tracker)


def test_a_run_in_which_no_replica_gets_a_unit_stands_still_too() -> None:
    clock = Clock()
    tracker = AttemptTracker(9, clock=clock)
    tracker.started(REPLICA)
    clock.now += 9
    tracker.heard()
    clock.now += 9
    assert (stalled(tracker), tracker.pulse().phase) == ("", "scoring")
    clock.now += 2
    assert "no unit is being scored: reading the input or writing parts" in stalled(tracker).replace("\n", " ")
