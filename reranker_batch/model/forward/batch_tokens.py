"""The token budget of a device."""

from __future__ import annotations

import logging

import numpy as np
import torch

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.ragged import Ragged
from reranker_batch.model.forward.padded import Forward

logger = logging.getLogger(__name__)
_CPU_BATCH_TOKENS = 4096
_GPU_BATCH_TOKENS = 32768
_PROBE_TOKENS = 2048
_MEMORY_SHARE = 0.7
"""Share of a GPU's free memory; the rest is for fragmentation and for others who use the device."""


def usual_batch_tokens(device: torch.device) -> int:
    """A token budget for inputs that may be over it, and then are computed alone."""
    return _GPU_BATCH_TOKENS if device.type == "cuda" else _CPU_BATCH_TOKENS


def find_batch_tokens(forward: Forward, *, longest_pair: int, device: torch.device) -> int:
    """A token budget that keeps the device busy and fits into its memory.

    On a GPU it is a power of two, so that small differences in free memory do not change which pairs share a batch.
    """
    if device.type != "cuda":
        return max(usual_batch_tokens(device), longest_pair)
    try:
        per_token = _bytes_per_token(forward, longest_pair, device)
    except torch.OutOfMemoryError as error:
        logger.warning("the memory of %s is too small for a pair of %d tokens: %s", device, longest_pair, error)
        return longest_pair
    fitting = int(_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / per_token)
    return max(min(_GPU_BATCH_TOKENS, 1 << max(fitting, 1).bit_length() - 1), longest_pair)


def _bytes_per_token(forward: Forward, longest_pair: int, device: torch.device) -> float:
    """Measured on one micro-batch of pairs of the greatest length."""
    ids = Ragged.from_lists([[1] * longest_pair] * max(1, _PROBE_TOKENS // longest_pair))
    probe, rows = TokenInputs.of_ids(ids), np.arange(len(ids), dtype=np.int64)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        forward(probe, rows)
    torch.cuda.synchronize(device)
    used = torch.cuda.max_memory_allocated(device) - before
    return max(used, 1) / forward.tokens(probe, rows)
