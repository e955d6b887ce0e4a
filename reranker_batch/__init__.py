"""Distributed batch reranking: Parquet in, cross-encoders on Ray actors, scored and trimmed Parquet out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reranker_batch.version import __version__

if TYPE_CHECKING:
    from reranker_batch.config import JobConfig
    from reranker_batch.core.report import RunReport
    from reranker_batch.errors import RerankerBatchError
    from reranker_batch.runtime.driver import run
    from reranker_batch.storage.verifying import Verification, verify_output

__all__ = ["JobConfig", "RerankerBatchError", "RunReport", "Verification", "__version__", "run", "verify_output"]

_HOMES = {
    "JobConfig": "config",
    "RerankerBatchError": "errors",
    "RunReport": "core.report",
    "Verification": "storage.verifying",
    "run": "runtime.driver",
    "verify_output": "storage.verifying",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the model layer needs no Ray and the reader no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
