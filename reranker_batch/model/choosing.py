"""Which way a model is run, and how many tokens at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.pairs import EncodedPairs, FloatArray
from reranker_batch.core.ragged import LongArray, Ragged
from reranker_batch.errors import ModelError
from reranker_batch.model.causal import SharedPrefixForward
from reranker_batch.model.forward import Forward, PaddedForward
from reranker_batch.model.loading import answer_weights
from reranker_batch.model.packed import PackedForward
from reranker_batch.model.prepacking import prepack

_LOG = logging.getLogger(__name__)
_CPU_BATCH_TOKENS = 4096
_GPU_BATCH_TOKENS = 32768
_PROBE_TOKENS = 2048
_MEMORY_SHARE = 0.7
"""Of the free memory of a GPU: the rest is for what the allocator cannot use, and for whoever shares the device."""
_EXACT_ABSOLUTE = _EXACT_RELATIVE = 1e-4
_HALF_OF_SPREAD, _HALF_RELATIVE = 0.2, 2**-6


def choose_forward(model: PreTrainedModel, trial: EncodedPairs, *, device: torch.device) -> Forward:
    """The fastest way that gives the logits of the plain padded one for the trial pairs.

    Raises:
        ModelError: oneDNN computes something else than torch on this machine.
    """
    plain = PaddedForward(model, device)
    expected = _logits(plain, trial)
    is_prepacked = device.type == "cpu" and prepack(model)
    try:
        packed = _packed(model, trial, expected, device)
    except ModelError as error:
        _LOG.warning("pairs are padded, which is slower: this model cannot be run packed. %s", error)
    else:
        _LOG.info("pairs are computed without padding (%d trial pairs agree with the padded pass)", len(expected))
        return packed
    if is_prepacked and (wrong := _difference(_logits(plain, trial), expected, model.dtype)):
        raise ModelError(f"oneDNN gives other logits than torch for this model on this machine. {wrong}")
    return plain


def choose_causal_forward(
    model: PreTrainedModel, answer_ids: Sequence[int], trial: EncodedPairs, *, device: torch.device
) -> Forward:
    """The way of a model that is scored through a prompt: what pairs share is computed once.

    Raises:
        ModelError: The model's attention is of another kind, or the logits are not those of the model's own pass.
    """
    forward = SharedPrefixForward(model, answer_weights(model, answer_ids), device)
    with torch.inference_mode():
        expected: FloatArray = forward.one_by_one(trial.input_ids).cpu().numpy()
    if device.type == "cpu":
        prepack(model)
    if wrong := _difference(_logits(forward, trial), expected, model.dtype):
        raise ModelError(
            f"With shared openings the logits are not those of the model's own pass. {wrong} This version of "
            "transformers runs the model in a way that is not known here; use one that constraints.txt names."
        )
    return forward


def _packed(model: PreTrainedModel, trial: EncodedPairs, expected: FloatArray, device: torch.device) -> PackedForward:
    packed = PackedForward(model, device)
    try:
        wrong = _difference(_logits(packed, trial), expected, model.dtype)
        if wrong is None:
            return packed
    except Exception as error:
        # What a family, or a kernel that the device lacks, makes of an input of another shape is not known beforehand.
        wrong = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    packed.release()
    raise ModelError(wrong)


def _logits(forward: Forward, pairs: EncodedPairs) -> FloatArray:
    """In two micro-batches or more, so that pairs of different lengths meet in one."""
    ids, segments = pairs.input_ids, pairs.first_segment
    logits = np.full(len(ids), np.nan, dtype=np.float32)
    budget = max(int(ids.lengths.max()), int(ids.offsets[-1]) // 2)
    with torch.inference_mode():
        for rows in forward.micro_batches(ids, segments, max_batch_tokens=budget):
            logits[rows] = forward(ids, segments, rows).float().cpu().numpy()
    return logits


def _difference(logits: FloatArray, expected: FloatArray, dtype: torch.dtype) -> str | None:
    """What is wrong with the logits, if anything is; half precision is allowed its rounding."""
    if dtype == torch.float32:
        allowed = _EXACT_ABSOLUTE + _EXACT_RELATIVE * np.abs(expected)
    else:
        allowed = _HALF_OF_SPREAD * np.ptp(expected) + _HALF_RELATIVE * np.abs(expected)
    with np.errstate(invalid="ignore"):
        off = np.abs(logits - expected)
    if ((off <= allowed) | ~(np.isfinite(logits) | np.isfinite(expected))).all():
        return None
    worst = int(np.argmax(np.nan_to_num(off - allowed, nan=np.inf)))
    return f"Trial pair {worst} has the logit {logits[worst]:.6g} instead of {expected[worst]:.6g}."


def find_batch_tokens(forward: Forward, *, longest_pair: int, device: torch.device) -> int:
    """A token budget for the device: what its caches or cores want, less where its memory does not hold that.

    It is a power of two, so that small differences in free memory do not change which pairs share a micro-batch.
    """
    if device.type != "cuda":
        return max(_CPU_BATCH_TOKENS, longest_pair)
    fitting = int(_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / _bytes_per_token(forward, longest_pair, device))
    return max(min(_GPU_BATCH_TOKENS, 1 << max(fitting, 1).bit_length() - 1), longest_pair)


def _bytes_per_token(forward: Forward, longest_pair: int, device: torch.device) -> float:
    """Measured on one micro-batch of pairs as long as they come."""
    pairs = Ragged.from_lists([[1] * longest_pair] * max(1, _PROBE_TOKENS // longest_pair))
    rows: LongArray = np.arange(len(pairs))
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        forward(pairs, np.zeros(len(pairs), dtype=np.int32), rows)
    torch.cuda.synchronize(device)
    used = torch.cuda.max_memory_allocated(device) - before
    return max(used, 1) / forward.tokens(pairs, np.zeros(len(pairs), dtype=np.int32), rows)
