"""A few pairs of a unit are scored again, each alone, and nothing of that can cost the unit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import ByteEncoder, HashScorer
from tables import nested_table, random_groups, write

from reranker_batch.config import InputConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairScores
from reranker_batch.errors import RowError
from reranker_batch.job.rescoring import rescore
from reranker_batch.pipeline import PreparedUnit, ResultSettings, prepare_unit, score_unit
from reranker_batch.storage.input.planning import plan_input

RESULTS = ResultSettings("pairs", 2, False, Activation(), ())


class RoughScorer(HashScorer):
    """As in half precision: a logit keeps a few bits."""

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        return PairScores(np.round(super().score(inputs).logits * 2) / np.float32(2))


class CountingScorer(HashScorer):
    def __init__(self) -> None:
        self.alone: list[bool] = []
        self.pairs = 0

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        self.alone.append(options["one_by_one"])
        self.pairs += len(inputs)
        return super().score(inputs)


class RefusingScorer(HashScorer):
    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        return PairScores(super().score(inputs).logits, {0: RowError("no", reason_code="no")})


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedUnit:
    path = write(nested_table(random_groups(20, max_candidates=6)), tmp_path / "in.parquet")
    config = InputConfig.model_validate({"path": str(path)})
    plan = plan_input(config, unit_pairs=10_000)
    [unit] = plan.units
    rows = plan.source.read(unit)
    limits = RequestLimits(max_item_tokens=400, max_pair_tokens=2000)
    return prepare_unit(unit, rows, ByteEncoder(), limits, keep_documents=False)


def test_each_pair_of_the_sample_is_scored_alone_and_compared(prepared: PreparedUnit) -> None:
    exact = CountingScorer()
    found = rescore(prepared, score_unit(prepared, RoughScorer()), exact, num_pairs=30, results=RESULTS)
    assert found is not None
    assert found.pairs == 30
    assert exact.alone == [True]
    assert 0 < exact.pairs <= 30
    assert 0.1 < found.max_logit_difference <= 0.25
    assert 0 < found.mean_logit_difference < found.max_logit_difference
    assert found.places > 0


def test_scores_that_are_exact_differ_in_nothing(prepared: PreparedUnit) -> None:
    found = rescore(prepared, score_unit(prepared, HashScorer()), HashScorer(), num_pairs=1000, results=RESULTS)
    assert found is not None
    assert (found.max_logit_difference, found.changed_places) == (0, 0)
    assert found.pairs == len(prepared.candidates)


def test_a_unit_with_refused_candidates_gives_no_sample(prepared: PreparedUnit) -> None:
    assert rescore(prepared, score_unit(prepared, RefusingScorer()), HashScorer(), num_pairs=5, results=RESULTS) is None
