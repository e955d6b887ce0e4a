"""Distributed batch reranking: Parquet in, cross-encoders on Ray actors, scored and trimmed Parquet out.

A job over files:       `run`, `plan`, `status`, `verify`, `accept`, `redrive`, `export`, `clean`, with a `JobConfig`
Its input beforehand:   `prepare`
Labels for training:    `label`, with a `LabelConfig`
A table or a dataset:   `rerank_table`
One query, or pairs:    `Reranker`
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reranker_batch.version import __version__

if TYPE_CHECKING:
    from reranker_batch.config import JobConfig
    from reranker_batch.config.labels import LabelConfig
    from reranker_batch.core.report import RunReport
    from reranker_batch.errors import RerankerBatchError
    from reranker_batch.exporting.export import export
    from reranker_batch.frames import rerank_table
    from reranker_batch.job.estimate import estimate_job as plan
    from reranker_batch.page.publishing import accept
    from reranker_batch.reranker import Reranker
    from reranker_batch.runtime.driver import prepare, run, status, verify
    from reranker_batch.runtime.labelling import label
    from reranker_batch.storage.output.cleaning import clean_outputs as clean
    from reranker_batch.storage.output.redriving import redrive_output as redrive
    from reranker_batch.storage.output.verifying import Verification, verify_output

__all__ = [
    "JobConfig",
    "LabelConfig",
    "Reranker",
    "RerankerBatchError",
    "RunReport",
    "Verification",
    "__version__",
    "accept",
    "clean",
    "export",
    "label",
    "plan",
    "prepare",
    "redrive",
    "rerank_table",
    "run",
    "status",
    "verify",
    "verify_output",
]

_HOMES = {
    "JobConfig": "config.JobConfig",
    "LabelConfig": "config.labels.LabelConfig",
    "Reranker": "reranker.Reranker",
    "RerankerBatchError": "errors.RerankerBatchError",
    "RunReport": "core.report.RunReport",
    "Verification": "storage.output.verifying.Verification",
    "accept": "page.publishing.accept",
    "clean": "storage.output.cleaning.clean_outputs",
    "export": "exporting.export.export",
    "label": "runtime.labelling.label",
    "plan": "job.estimate.estimate_job",
    "prepare": "runtime.driver.prepare",
    "redrive": "storage.output.redriving.redrive_output",
    "rerank_table": "frames.rerank_table",
    "run": "runtime.driver.run",
    "status": "runtime.driver.status",
    "verify": "runtime.driver.verify",
    "verify_output": "storage.output.verifying.verify_output",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the model layer needs no Ray and the reader no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, own_name = _HOMES[name].rpartition(".")
    return getattr(import_module(f"{__name__}.{home}"), own_name)


def __dir__() -> list[str]:
    """The public names beside what every module has."""
    return sorted({*globals(), *__all__})
