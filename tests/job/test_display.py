"""What is shown of a run that goes on."""

from __future__ import annotations

from reranker_batch.core.attempts import Pulse
from reranker_batch.core.counts import Counts
from reranker_batch.job.display import Tally


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pulse(scored: int, *, is_starting: bool = False, is_loading: bool = False) -> Pulse:
    return Pulse(scored=scored, silent=(), idle_s=0, is_starting=is_starting, is_loading=is_loading)


def counts(pairs: int) -> Counts:
    return Counts(candidates=pairs, scored=pairs, model_tokens=10 * pairs)


def test_progress_and_what_is_left_move_within_a_unit_and_do_not_swing() -> None:
    clock = Clock()
    tally = Tally(10_000, 2, clock=clock)
    assert tally.line().endswith("starting")
    clock.now += 60
    tally.hear(pulse(0, is_starting=True, is_loading=True))
    assert tally.line().endswith("loading the model")
    tally.hear(pulse(0))
    lefts = []
    for second in range(1, 100):
        clock.now += 1
        if second == 50:
            tally.hear(pulse(0))
            tally.add(counts(5_000))
        tally.hear(pulse(second * 100 % 5_000))
        assert tally.done_pairs == second * 100
        lefts.append(tally.left_s())
    assert lefts[:4] == [None] * 4, "a pace of a few seconds says nothing"
    assert [left for left in lefts if left is not None] == [100 - second for second in range(5, 100)]
    assert "0:00:01 left" in tally.line()
    tally.add(counts(5_000))
    assert tally.line().startswith("10,000 of 10,000 pairs · ")
    assert tally.line().endswith("done")


def test_what_is_shown_never_falls() -> None:
    """A unit that is scored again, and one that ended whose part is not published yet."""
    tally = Tally(100, 4, 20, 1, clock=Clock())
    tally.hear(pulse(30))
    tally.hear(pulse(0))
    assert tally.done_pairs == 50
    tally.add(counts(25))
    assert tally.done_pairs == 50


def test_what_an_earlier_attempt_published_is_no_pace() -> None:
    clock = Clock()
    tally = Tally(1_000, 10, 900, 9, clock=clock)
    tally.hear(pulse(0))
    clock.now += 10
    tally.hear(pulse(50))
    assert tally.rates()[0] == 5
    assert tally.left_s() == 10
