"""How long one replica on this machine would roughly take."""

from __future__ import annotations

import os
from math import prod

from reranker_batch.job.job import Job
from reranker_batch.job.serial import device_of

_TOKENS_A_PAIR = 128
_CPU_FLOPS, _GPU_FLOPS = 1e11, 1e14
"""What a core, or a GPU, does in a second of a transformer's arithmetic: right within a factor of a few."""


def expected_work_s(job: Job) -> float:
    """Seconds of scoring for the pairs of the plan, from the sizes of the model's weights alone.

    A token costs two operations for each weight that is no embedding (https://arxiv.org/abs/2001.08361, section 2.1).
    """
    from reranker_batch.model.folder.weights import weight_shapes

    shapes = weight_shapes(job.files.folder)
    weights = sum(prod(shape) for name, shape in shapes.items() if len(shape) > 1 and "embed" not in name)
    tokens = job.plan.num_pairs * min(_TOKENS_A_PAIR, job.limits.max_pair_tokens or _TOKENS_A_PAIR)
    cores = len(os.sched_getaffinity(0))
    return 2.0 * weights * tokens / (_GPU_FLOPS if device_of(job.config) == "cuda" else _CPU_FLOPS * cores)
