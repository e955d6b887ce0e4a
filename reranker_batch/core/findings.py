"""What the end of a run found out about its rankings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.version import __version__


@dataclass(frozen=True)
class Findings:
    """Movement and metrics as report.json has them."""

    movement_first_stage: Mapping[str, Any]
    movement: Mapping[str, Any] | None = None
    """Against an earlier output, named by `compared_with`."""
    metrics: Mapping[str, Any] | None = None
    """By the judgments named by `qrels`."""

    def digest(self, parts: Iterable[str]) -> str:
        """A hash of these values and of the hashes of the parts that they were computed from."""
        values = {**vars(self), "parts": sorted(parts), "version": __version__}
        return fingerprint(values)
