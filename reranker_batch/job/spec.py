"""What a process that works for a run has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reranker_batch.core.backend import ScoringBackend, Where
from reranker_batch.core.limits import RequestLimits
from reranker_batch.pipeline import ResultSettings
from reranker_batch.reuse.lookup import Lookup
from reranker_batch.reuse.probe import SampleCheck
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.input.source import InputSource
from reranker_batch.storage.output.lock import LockTicket


@dataclass(frozen=True)
class WorkerSpec:
    """The same for every unit and every process; small, and without secrets."""

    source: InputSource
    backend: ScoringBackend
    where: Where
    limits: RequestLimits
    results: ResultSettings
    output: Folder
    fingerprint: str
    scoring_fingerprint: str = ""
    memo: bool = True
    """Whether each unit leaves a memo for later runs."""
    lookup: Lookup | None = None
    """Finds the pairs that an earlier output has scored."""
    reuse_check: SampleCheck | None = None
    """To be made by each replica before it scores."""
    max_replicas: int | None = None
    """None: as many as the engine has. 0: nothing is left to score, and no model is loaded."""
    lock: LockTicket | None = None
    precision_sample: Mapping[str, int] = field(default_factory=dict)
    """How many pairs of which units are scored again in float32."""
