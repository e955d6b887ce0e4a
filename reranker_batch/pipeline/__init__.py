"""Prepare, score and finish of one work unit: plain functions on Arrow tables, without Ray, torch or a file."""

from __future__ import annotations

from reranker_batch.pipeline.counting import count_unit
from reranker_batch.pipeline.finished import FinishedUnit, finish_unit
from reranker_batch.pipeline.prepared import Find, PreparedUnit, nothing_known, prepare_unit
from reranker_batch.pipeline.scored import ScoredUnit, score_texts, score_unit, separate_non_finite
from reranker_batch.pipeline.settings import ResultSettings

__all__ = [
    "Find",
    "FinishedUnit",
    "PreparedUnit",
    "ResultSettings",
    "ScoredUnit",
    "count_unit",
    "finish_unit",
    "nothing_known",
    "prepare_unit",
    "score_texts",
    "score_unit",
    "separate_non_finite",
]
