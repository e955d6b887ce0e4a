"""What a page is compared with on request: an earlier output, relevance judgments."""

from __future__ import annotations

from typing import Any

from reranker_batch.core.report import RunReport
from reranker_batch.errors import ConfigError
from reranker_batch.evaluation import judgments_of, metrics_of
from reranker_batch.storage.files.filesystem import Folder
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
        judgments = judgments_of(read_qrels(qrels))
        metrics = metrics_of(output, judgments=judgments, earlier=earlier, keeps_all=keeps_all)
        values["metrics"] = {"qrels": qrels, "compared_with": compare, **metrics}
    return values


def _finished(output: str) -> RunReport:
    status = output_status(output)
    report = RunState(Folder.at(output)).report()
    if report is None or status.state not in _FINISHED:
        state = status.state.replace("_", " ")
        raise ConfigError(f"{output}: only finished outputs are compared, and this one is not: {state}, run/{REPORT}.")
    return report
