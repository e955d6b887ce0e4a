"""Which candidates of a unit become positives and negatives, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reranker_batch.config.labels import LabelsConfig
from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.labels.candidates import Candidates
from reranker_batch.labels.groups import count_of, has_text_of, highest_of, is_repeated, lowest_of, ranks_of
from reranker_batch.labels.reasons import NEGATIVES, POSITIVES, Fate, FateArray
from reranker_batch.labels.sampling import sampled
from reranker_batch.labels.scaling import Scale, finite

_VOTES_TO_RELABEL = 2


@dataclass(frozen=True)
class Decided:
    """Arrays with a value for each slot; `scaled` is of shape [teachers, slots].

    margin: score of the lowest positive of the query, as it was judged, less the score; NaN without such a positive.
    """

    fate: FateArray
    score: FloatArray
    scaled: FloatArray
    margin: FloatArray


@dataclass(frozen=True)
class Rules:
    """All that decides, made concrete."""

    config: LabelsConfig
    scales: tuple[Scale, ...]

    @property
    def votes_needed(self) -> int:
        least = self.config.agreement.min_teachers
        return len(self.config.teachers) if least == "all" else least

    def decide(self, candidates: Candidates) -> Decided:
        """Decide about a unit. Every slot gets exactly one fate."""
        scaled = np.stack([scale.scores(of) for scale, of in zip(self.scales, candidates.logits, strict=True)])
        return _Deciding(self, candidates, scaled, self.combined(scaled)).decided()

    def combined(self, scaled: FloatArray) -> FloatArray:
        """The score of each slot as float32; NaN where a teacher has none."""
        if self.config.combine == "none":
            return np.where(np.isfinite(scaled).all(axis=0), scaled[0], np.float32("nan"))
        if self.config.combine == "min":
            return np.asarray(scaled.min(axis=0))
        weights = np.array([teacher.weight for teacher in self.config.teachers])
        mean: FloatArray = (weights @ scaled.astype(np.float64) / weights.sum()).astype(np.float32)
        return mean


class _Deciding:
    """One unit on its way: each step gives fates to slots that are still open."""

    def __init__(self, rules: Rules, candidates: Candidates, scaled: FloatArray, score: FloatArray) -> None:
        self.rules, self.config, self.candidates = rules, rules.config, candidates
        self.scaled, self.score = scaled, score
        self.query, self.num_queries = candidates.places.query, candidates.places.num_queries
        self.texts = candidates.texts()
        self.fate: FateArray = np.full(len(candidates.places), Fate.OPEN, np.int8)

    def decided(self) -> Decided:
        self.give(Fate.DEAD_LETTER, ~self.candidates.is_scored)
        self.find_positives()
        positives = self.fate == Fate.POSITIVE
        has_positive = count_of(self.query, positives, self.num_queries) > 0
        self.give(Fate.NO_POSITIVE, ~has_positive[self.query])
        self.give(Fate.SAME_TEXT, has_text_of(self.query, self.texts, self.open, positives))
        kept_anyway = self.apply_margins(positives)
        self.apply_limits()
        self.sample(kept_anyway)
        self.drop_poor_queries()
        lowest = lowest_of(self.query, self.score, positives, self.num_queries)[self.query].astype(np.float64)
        margin = np.where(np.isfinite(lowest), lowest, np.nan) - self.score.astype(np.float64)
        return Decided(self.fate, self.score, self.scaled, finite(margin))

    @property
    def open(self) -> BoolArray:
        return np.asarray(self.fate == Fate.OPEN)

    def give(self, fate: Fate, where: BoolArray) -> None:
        self.fate[self.open & where] = fate

    def find_positives(self) -> None:
        rules = self.config.positives
        if rules.source == "top1":
            chosen = ranks_of(self.query, -self.score, self.open) == 0
        else:
            chosen = self.open & self.candidates.is_judged & (self.candidates.relevance >= rules.min_relevance)
        if rules.min_score is not None:
            self.give(Fate.BELOW_MIN, chosen & (self.score < np.float32(rules.min_score)))
        self.give_once(Fate.POSITIVE, chosen & self.open)

    def give_once(self, fate: Fate, where: BoolArray) -> None:
        """Each text of a query once: the one with the highest score."""
        repeated = is_repeated(self.query, self.texts, ranks_of(self.query, -self.score, where))
        self.give(Fate.REPEATED, repeated)
        self.give(fate, where & ~repeated)

    def apply_margins(self, positives: BoolArray) -> BoolArray:
        """Drop or relabel what is too close; with `keep`, say which those are."""
        votes = sum(self._passes(at, positives).astype(np.int64) for at in range(len(self.scaled)))
        is_close = self.open & (votes < self.rules.votes_needed)
        if self.config.false_negatives == "keep":
            return is_close
        if self.config.false_negatives == "relabel":
            self.relabel(is_close, positives)
        self.give(Fate.TOO_CLOSE, is_close)
        return np.zeros_like(is_close)

    def _passes(self, teacher: int, positives: BoolArray) -> BoolArray:
        """Whether a candidate keeps the margins of one teacher, in float32 as the scores are."""
        rules, logits, scores = self.config.negatives, self.candidates.logits[teacher], self.scaled[teacher]
        passes = np.ones(len(logits), np.bool_)
        with np.errstate(invalid="ignore", over="ignore"):  # infinity where a query has no positive
            if rules.relative_margin is not None:
                lowest = lowest_of(self.query, logits, positives, self.num_queries)
                passes &= logits <= (lowest - np.abs(lowest) * np.float32(rules.relative_margin))[self.query]
            if rules.absolute_margin is not None:
                lowest = lowest_of(self.query, scores, positives, self.num_queries)
                passes &= scores + np.float32(rules.absolute_margin) <= lowest[self.query]
        return passes

    def relabel(self, is_close: BoolArray, positives: BoolArray) -> None:
        votes = np.zeros(len(self.query), np.int64)
        for logits in self.candidates.logits:
            votes += logits > highest_of(self.query, logits, positives, self.num_queries)[self.query]
        chosen = is_close & (votes >= _VOTES_TO_RELABEL)
        if (least := self.config.positives.min_score) is not None:
            self.give(Fate.BELOW_MIN, chosen & (self.score < np.float32(least)))
        self.give_once(Fate.RELABELLED, chosen & self.open)

    def apply_limits(self) -> None:
        rules, most = self.config.negatives, self.config.agreement.max_disagreement
        if most is not None:
            with np.errstate(over="ignore"):
                distance = self.scaled.max(axis=0) - self.scaled.min(axis=0)
            self.give(Fate.DISAGREEMENT, distance > np.float32(most))
        if rules.max_score is not None:
            self.give(Fate.ABOVE_MAX, self.score > np.float32(rules.max_score))
        if rules.min_score is not None:
            self.give(Fate.BELOW_MIN, self.score < np.float32(rules.min_score))
        self.give(Fate.REPEATED, is_repeated(self.query, self.texts, ranks_of(self.query, -self.score, self.open)))

    def sample(self, kept_anyway: BoolArray) -> None:
        rules = self.config.negatives
        ranks = ranks_of(self.query, -self.score, self.open)
        first, stop = rules.rank
        is_outside = (ranks < (first or 0)) | (ranks >= (stop if stop is not None else np.iinfo(np.int64).max))
        self.give(Fate.OUTSIDE_RANK, is_outside)
        ranks = ranks_of(self.query, -self.score, self.open)
        chosen = sampled(self.candidates.places, ranks, rules)
        self.give(Fate.NOT_SAMPLED, ~chosen)
        self.give(Fate.KEPT_FALSE_NEGATIVE, kept_anyway)
        self.give(Fate.NEGATIVE, chosen)

    def drop_poor_queries(self) -> None:
        is_label = is_one_of(self.fate, (*POSITIVES, *NEGATIVES))
        negatives = count_of(self.query, is_one_of(self.fate, NEGATIVES), self.num_queries)
        is_poor = (negatives < self.config.negatives.min_num)[self.query]
        self.fate[is_label & is_poor] = Fate.TOO_FEW_NEGATIVES


def is_one_of(fate: FateArray, fates: Sequence[Fate]) -> BoolArray:
    return np.isin(fate, np.array(fates, np.int8))


def counts_of(fate: FateArray) -> LongArray:
    """How many slots have each fate."""
    return np.bincount(fate, minlength=len(Fate)).astype(np.int64)
