"""What a page is compared with on request: an earlier output, relevance judgments."""

from __future__ import annotations

from typing import Any

from reranker_batch.core.report import RunReport
from reranker_batch.errors import ConfigError
from reranker_batch.evaluation import (
    Values,
    compare_metrics,
    evaluate_first_stage,
    evaluate_output,
    judgments_of,
    means_of,
)
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.input.qrels import read_qrels
from reranker_batch.storage.output.comparing import compare_outputs
from reranker_batch.storage.output.run_state import REPORT, RunState
from reranker_batch.storage.output.status import output_status

_FINISHED = ("complete", "accepted", "too_many_failed", "gated")


def compared(output: Folder, *, compare: str | None, qrels: str | None) -> dict[str, Any]:
    """Movement since the output `compare` and metrics by the judgments `qrels`, under their keys in report.json.

    Raises:
        ConfigError: One of the outputs is not finished, or ir-measures is not installed.
        InputError: The judgments cannot be read.
        CommitError: A part cannot be read.
    """
    if compare is None and qrels is None:
        return {}
    report = _finished(output.uri)
    earlier = None
    if compare is not None:
        _finished(compare)
        earlier = Folder.at(compare)
    values: dict[str, Any] = {}
    if earlier is not None:
        values["movement"] = {"compared_with": compare, **compare_outputs(earlier, output).to_dict()}
    if qrels is not None:
        keeps_all = report.totals.kept == report.totals.candidates
        values["metrics"] = {"qrels": qrels, **_metrics(output, earlier, qrels, keeps_all=keeps_all)}
    return values


def _finished(output: str) -> RunReport:
    status = output_status(output)
    report = RunState(Folder.at(output)).report()
    if report is None or status.state not in _FINISHED:
        state = status.state.replace("_", " ")
        raise ConfigError(f"{output}: only finished outputs are compared, and this one is not: {state}, run/{REPORT}.")
    return report


def _metrics(output: Folder, earlier: Folder | None, qrels: str, *, keeps_all: bool) -> dict[str, Any]:
    judgments = judgments_of(read_qrels(qrels))
    values = evaluate_output(output, judgments)
    return {
        "queries": len(values),
        "means": means_of(values),
        "since_first_stage": _changes(evaluate_first_stage(output, judgments), values) if keeps_all else None,
        "since_earlier": None if earlier is None else _changes(evaluate_output(earlier, judgments), values),
    }


def _changes(before: Values, after: Values) -> dict[str, Any]:
    return {name: change.to_dict() for name, change in compare_metrics(before, after).items()}
