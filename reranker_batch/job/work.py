"""How long one replica on this machine would roughly take."""

from __future__ import annotations

import os

from reranker_batch.job.job import Job
from reranker_batch.model.source.devices import device_here

_TOKENS_A_PAIR = 128
_CPU_FLOPS, _GPU_FLOPS = 1e11, 1e14
"""What a core, or a GPU, does in a second of a transformer's arithmetic: right within a factor of a few."""


def expected_work_s(job: Job) -> float:
    """Seconds of scoring for the pairs of the plan, by the arithmetic of its tokens alone."""
    tokens = job.plan.num_pairs * min(_TOKENS_A_PAIR, job.limits.max_pair_tokens or _TOKENS_A_PAIR)
    cores = len(os.sched_getaffinity(0))
    pace = _GPU_FLOPS if device_here(job.devices) == "cuda" else _CPU_FLOPS * cores
    return job.backend.operations_per_token() * tokens / pace
