"""Limits that a finished output must keep before it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from reranker_batch.core.counts import Counts

MAX_FAILED = "output.max_failed"
NOT_COMPARED = "not compared: there is no earlier output"

_TOLERANCE = 1e-9
"""Of a mean, for what its sum was rounded by."""


class GateLimits(Protocol):
    """The section `gates` of a config; None is no limit."""

    @property
    def max_queries_changed(self) -> str | None: ...

    @property
    def min_overlap_at_10(self) -> float | None: ...

    @property
    def min_ndcg_at_10(self) -> float | None: ...

    @property
    def max_truncated(self) -> str | None: ...


@dataclass(frozen=True)
class GateResult:
    """One limit, and what a run has come to."""

    key: str
    """Of the config, with its section."""
    limit: int | float | str
    value: int | float | None
    """Compared with the limit: a count, a share from 0 to 1, or a mean; None where there is nothing to measure."""
    is_met: bool
    message: str = ""
    """Why the limit is not met, or why nothing was compared."""


def failed_gate(max_failed: int | str, counts: Counts) -> GateResult:
    """Whether so many dead letters are tolerated; a share such as `0.1%` is of the candidates."""
    failed = counts.num_dead_letters
    message = f"{failed} dead letters are more than {MAX_FAILED}={max_failed}"
    return _at_most(MAX_FAILED, max_failed, failed, counts.candidates, message)


def gate_results(
    limits: GateLimits, counts: Counts, movement: Mapping[str, Any] | None, metrics: Mapping[str, Any] | None
) -> list[GateResult]:
    """The limits that are set, in the order of the config.

    `movement` is that against the earlier output, as the report has it, None where there is no such output: the gates
    on movement are met then. Where an earlier output has queries, and this one has none of them, they are not.
    """
    return [
        *([] if limits.max_queries_changed is None else [_queries_changed(limits.max_queries_changed, movement)]),
        *([] if limits.min_overlap_at_10 is None else [_overlap(limits.min_overlap_at_10, movement)]),
        *([] if limits.min_ndcg_at_10 is None else [_ndcg(limits.min_ndcg_at_10, metrics or {})]),
        *([] if limits.max_truncated is None else [_truncated(limits.max_truncated, counts)]),
    ]


def is_at_most(limit: int | str, number: int, whole: int) -> bool:
    """Whether a number is within a count, or within a share of the whole such as `0.1%`. Exact."""
    if isinstance(limit, int):
        return number <= limit
    return number * 100 <= Decimal(limit.removesuffix("%")) * whole


def _at_most(key: str, limit: int | str, number: int, whole: int, message: str) -> GateResult:
    value = number if isinstance(limit, int) else number / whole if whole else None
    is_met = is_at_most(limit, number, whole)
    return GateResult(key, limit, value, is_met, "" if is_met else message)


def _at_least(key: str, limit: float, value: float, what: str) -> GateResult:
    is_met = value >= limit - _TOLERANCE
    return GateResult(key, limit, value, is_met, "" if is_met else f"{what} is {value:.10g}, below {key}={limit}")


def _queries_changed(limit: str, movement: Mapping[str, Any] | None) -> GateResult:
    key = "gates.max_queries_changed"
    if movement is None or not movement["queries"]:
        return _incomparable(key, limit, movement)
    changed, queries = movement["changed_queries"], movement["queries"]
    message = f"{changed:,} of {queries:,} queries changed since {movement['compared_with']}, more than {key}={limit}"
    return _at_most(key, limit, changed, queries, message)


def _overlap(limit: float, movement: Mapping[str, Any] | None) -> GateResult:
    key = "gates.min_overlap_at_10"
    if movement is None or not movement["queries"]:
        return _incomparable(key, limit, movement)
    what = f"the mean overlap of the first ten documents with {movement['compared_with']}"
    return _at_least(key, limit, movement["overlap_at_10"]["mean"], what)


def _incomparable(key: str, limit: float | str, movement: Mapping[str, Any] | None) -> GateResult:
    if movement is None:
        return GateResult(key, limit, None, is_met=True, message=NOT_COMPARED)
    earlier, queries = movement["compared_with"], movement["queries_only_before"]
    if not queries:
        return GateResult(key, limit, None, is_met=True, message=f"not compared: {earlier} has no ranked query")
    message = f"none of the {queries:,} queries of {earlier} is in this output, so {key}={limit} is not met"
    return GateResult(key, limit, None, is_met=False, message=message)


def _ndcg(limit: float, metrics: Mapping[str, Any]) -> GateResult:
    key = "gates.min_ndcg_at_10"
    value = metrics["means"]["ndcg_at_10"]
    if value is None:
        message = f"no query that {metrics['qrels']} judges is in this output, so {key}={limit} is not met"
        return GateResult(key, limit, None, is_met=False, message=message)
    return _at_least(key, limit, value, f"nDCG@10 of {metrics['queries']:,} judged queries")


def _truncated(limit: str, counts: Counts) -> GateResult:
    key = "gates.max_truncated"
    message = f"{counts.truncated:,} of {counts.scored:,} scored pairs lost text to a limit, more than {key}={limit}"
    return _at_most(key, limit, counts.truncated, counts.scored, message)
