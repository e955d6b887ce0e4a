"""One model copy at work, whatever engine runs its process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial

from reranker_batch.core.attempts import ReplicaListener
from reranker_batch.core.isolation import IsolatingScorer
from reranker_batch.core.precision import Precision
from reranker_batch.errors import RerankerBatchError, ReuseRejectedError, described
from reranker_batch.job.rescoring import rescore
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.job.steps import Prepared, Scored, naming
from reranker_batch.pipeline import PreparedUnit, ScoredUnit, score_texts, score_unit

logger = logging.getLogger(__name__)
_REPORT_EVERY_S = 2.0


def exit_process() -> None:
    """End the process without clean-up: after a foreign error a device may be of no use to it."""
    os._exit(1)


class Replica:
    """Loaded once, then called with one prepared unit at a time.

    The listener is told before each step that may end the process. After an error that is not ours the process ends
    itself, and the unit is tried again in a fresh one.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        listener: ReplicaListener,
        *,
        name: str,
        node: str,
        die: Callable[[], None] = exit_process,
    ) -> None:
        self._spec = spec
        self._listener = listener
        self._name = name
        self._die = die
        listener.start(name, node)
        try:
            self._scorer = spec.backend.load_scorer(spec.where)
            self._check_reuse()
        except RerankerBatchError as error:
            listener.give_up(error)
            raise
        except Exception as error:
            listener.fail_start(name, described(error))
            die()
            raise
        listener.started(name)
        self._free_since = time.time()

    def _check_reuse(self) -> None:
        """Raises ReuseRejectedError where scores of the earlier output are not those of this model on this device."""
        if self._spec.reuse_check is None:
            return
        encoder, limits = self._spec.backend.load_encoder(), self._spec.limits
        check = self._spec.reuse_check.run(
            lambda queries, documents, at: score_texts(queries, documents, at, encoder, self._scorer, limits)
        )
        if not self._listener.reuse_checked(check):
            raise ReuseRejectedError(f"{check}.")

    def __call__(self, prepared: Prepared) -> Scored:
        started = time.time()
        with naming(prepared.unit.unit, "scored"):
            scored, precision, rescored_s = self._score(prepared.unit)
        arrived = min(max(prepared.ready_at, self._free_since), started)
        timings = {
            **prepared.timings,
            "wait_for_input": arrived - self._free_since,
            "transfer": started - arrived,
            "rescore": rescored_s,
        }
        self._free_since = time.time()
        timings["score"] = self._free_since - started - rescored_s
        return Scored(scored, timings, precision)

    def _score(self, prepared: PreparedUnit) -> tuple[ScoredUnit, Precision | None, float]:
        """The unit, what its sample showed, and the seconds that the sample took."""
        unit_id = prepared.unit.unit_id
        plan = self._listener.begin(unit_id, self._name)
        scorer = self._scorer
        if not plan.is_whole:
            scorer = IsolatingScorer(scorer, plan, announce=partial(self._listener.announce, unit_id))
        report = _Reporter(self._listener, prepared)
        try:
            scored = score_unit(prepared, scorer, on_progress=report)
        except RerankerBatchError:
            raise
        except Exception as error:
            self._listener.fail(unit_id, described(error))
            self._die()
            raise
        # Before the end is told: should the second scoring kill the process, the next attempt goes without.
        scored_at = time.time()
        precision = self._rescore(prepared, scored, report) if plan.is_whole else None
        self._listener.end(unit_id)
        return scored, precision, time.time() - scored_at

    def _rescore(self, prepared: PreparedUnit, scored: ScoredUnit, report: _Reporter) -> Precision | None:
        num_pairs = self._spec.precision_sample.get(prepared.unit.unit_id, 0)
        if not num_pairs or not len(prepared.inputs):  # all pairs may be reused
            return None
        try:
            exact = self._spec.backend.load_exact_scorer(self._spec.where) or self._scorer
            return rescore(
                prepared, scored, exact, num_pairs=num_pairs, results=self._spec.results, on_progress=report.repeat
            )
        except Exception as error:  # Most likely memory; a unit that is scored must not be lost over a sample.
            logger.warning("no pairs of unit %s were scored again: %s", prepared.unit.unit_id, described(error))
            return None


class _Reporter:
    """Tells the listener how many pairs of a unit are done, every few seconds."""

    def __init__(self, listener: ReplicaListener, prepared: PreparedUnit) -> None:
        self._listener = listener
        self._unit_id = prepared.unit.unit_id
        self._pairs_per_token = int(prepared.pieces.is_scored.sum()) / max(int(prepared.inputs.costs.sum()), 1)
        self._scored = 0
        self._told_at = time.monotonic()

    def __call__(self, tokens: int) -> None:
        self._scored = round(tokens * self._pairs_per_token)
        self.repeat(tokens)

    def repeat(self, _: int) -> None:
        """Say the same number again: the replica moves, but scores nothing new."""
        if time.monotonic() - self._told_at >= _REPORT_EVERY_S:
            self._told_at = time.monotonic()
            self._listener.report(self._unit_id, self._scored)
