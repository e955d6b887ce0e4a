"""What a process of Ray has imported. Imports little itself, since Ray's workers import this file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from reranker_batch.runtime import steps
from reranker_batch.runtime.tracker import _Tracker

if TYPE_CHECKING:
    import pyarrow as pa

    from reranker_batch.job.spec import WorkerSpec

HEAVY = {"torch", "transformers", "sentence_transformers"}


class TrackerProbe(_Tracker):
    def modules(self) -> set[str]:
        return HEAVY & sys.modules.keys()


def modules_after_prepare(block: pa.Table, spec: WorkerSpec) -> set[str]:
    steps.prepare(block, spec=spec)
    return {"pyarrow", *HEAVY} & sys.modules.keys()
