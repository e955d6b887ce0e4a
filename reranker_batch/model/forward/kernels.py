"""Attention kernels for packed sequences, and which of them a device and a precision can use.

All of them compute the same function: sequence `i` of the queries attends to sequence `i` of the keys and values and to
nothing else. With a window, queries and keys are the same sequences, and a token sees those less than `window` away.
Where there are fewer heads of keys than of queries, neighbouring query heads share one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.nn import functional

from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.errors import ModelError
from reranker_batch.model.forward.padded import send

HALF = (torch.bfloat16, torch.float16)
_CPU_CHUNK = 1 << 19
"""Attention weights that are computed at a time on a CPU: more no longer fit a core's cache."""
_GPU_CHUNK = 1 << 26
"""The same on a GPU: more could need memory that the token budget does not count, where torch keeps all weights."""
_LANES = 32
"""Numbers of 16 bits that a vector unit takes at once: rows of another length are slow to normalize."""
_FLASH_MULTIPLE, _FLASH_LARGEST = 8, 256
_FLASH_CAPABILITY = (8, 0)


class SequenceBounds:
    """Where the sequences of a packed row begin and end, on the host and on the device."""

    def __init__(self, lengths: LongArray, device: torch.device) -> None:
        self.lengths = lengths
        self.device = device
        self.offsets = offsets_of(lengths)

    @cached_property
    def starts(self) -> torch.Tensor:
        """The first token of every sequence, int64 of shape [sequences]."""
        return send(self.offsets[:-1], self.device)

    @cached_property
    def bounds(self) -> torch.Tensor:
        """The offsets as kernels want them, int32 of shape [sequences + 1]."""
        return send(self.offsets.astype(np.int32), self.device)

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    @cached_property
    def edges(self) -> list[int]:
        """Where neighbours differ in length, and both ends."""
        edges: list[int] = np.flatnonzero(np.diff(self.lengths, prepend=-1, append=-1)).tolist()
        return edges


class VarlenKernel(Protocol):
    """Attention of packed sequences."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        queries: SequenceBounds,
        keys: SequenceBounds,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        """Tensors of shape [tokens, heads, head size] -> [tokens of `query`, heads of `query`, head size]."""


class FlashKernel:
    """torch's `varlen_attn`: one call for the whole micro-batch. `flash_obstacle` says where it cannot be used."""

    name = "flash attention"

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        queries: SequenceBounds,
        keys: SequenceBounds,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        from torch.nn.attention.varlen import varlen_attn

        if query.shape[-1] % _FLASH_MULTIPLE or query.shape[-1] > _FLASH_LARGEST:
            raise ModelError(
                f"Flash attention takes heads of a multiple of {_FLASH_MULTIPLE} numbers up to {_FLASH_LARGEST}, "
                f"and this model's have {query.shape[-1]}."
            )
        more: dict[str, Any] = {"scale": scaling}
        if window is not None:
            more["window_size"] = (window - 1, window - 1)  # tokens seen on either side, the last of them included
        if "num_splits" in _varlen_options() and torch.version.hip is None:
            more["num_splits"] = 1  # else the bits of a pair depend on its neighbours
        if "enable_gqa" in _varlen_options() and query.shape[1] != key.shape[1]:
            more["enable_gqa"] = True
        query, key, value = (
            states if states.stride(-1) == 1 else states.contiguous() for states in (query, key, value)
        )
        longest = (queries.longest, keys.longest)
        return cast(torch.Tensor, varlen_attn(query, key, value, queries.bounds, keys.bounds, *longest, **more))


@cache
def _varlen_options() -> frozenset[str]:
    """`num_splits` and `enable_gqa` came after torch 2.11, whose kernel shares heads without being told."""
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def flash_obstacle(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why `FlashKernel` cannot be used here, None if it can: the conditions of torch's kernel, but for the heads."""
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    if dtype not in HALF:
        return f"it takes bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of torch comes without it"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < _FLASH_CAPABILITY:
        return f"it needs compute capability 8.0, and {torch.cuda.get_device_name(device)} has {major}.{minor}"
    return None


class RunsKernel:
    """Neighbouring sequences of equal lengths together, by torch's dense attention: any device and any precision."""

    name = "runs of equal lengths"

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        queries: SequenceBounds,
        keys: SequenceBounds,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
        repeats = query.shape[1] // key.shape[1]
        for start, stop in _runs(queries, keys, num_heads=query.shape[1]):
            rows = slice(int(queries.offsets[start]), int(queries.offsets[stop]))
            seen = slice(int(keys.offsets[start]), int(keys.offsets[stop]))
            states = (query[rows], key[seen], value[seen])
            asks, seen_keys, values = (_by_sequence(each, stop - start) for each in states)
            if repeats > 1:
                seen_keys, values = (each.repeat_interleave(repeats, dim=1) for each in (seen_keys, values))
            attended = _dense(asks, seen_keys, values, scaling, _band(int(keys.lengths[start]), window, query.device))
            out[rows].unflatten(0, (stop - start, -1)).copy_(attended.transpose(1, 2))
        return out


def _runs(queries: SequenceBounds, keys: SequenceBounds, *, num_heads: int) -> Iterator[tuple[int, int]]:
    """First and last (not included) of neighbours of equal lengths, no more of them than a chunk has weights for."""
    limit = _CPU_CHUNK if queries.device.type == "cpu" else _GPU_CHUNK
    edges = keys.edges if queries is keys else sorted({*queries.edges, *keys.edges})
    for start, stop in pairwise(edges):
        size = max(1, limit // int(queries.lengths[start] * keys.lengths[start] * num_heads))
        for at in range(start, stop, size):
            yield at, min(at + size, stop)


def _by_sequence(states: torch.Tensor, count: int) -> torch.Tensor:
    """[sequences * tokens, heads, size] -> [sequences, heads, tokens, size]."""
    by_sequence: torch.Tensor = states.unflatten(0, (count, -1))
    return by_sequence.transpose(1, 2)


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if window is None or length <= window:
        return None
    return _near(length, window, device)


def _dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of sequences of one length, [sequences, heads, tokens, size]; whichever way measured best."""
    if query.dtype not in HALF or mask is not None or query.device.type != "cpu":
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    length = key.shape[2]
    spare = -length % _LANES
    asks, keys, values = (states.flatten(0, 1) for states in (query, _lengthen(key, spare), _lengthen(value, spare)))
    unseen = query.new_zeros(1, 1, length + spare)
    unseen[..., length:] = -torch.inf
    weights = torch.baddbmm(unseen, asks, keys.transpose(1, 2), alpha=scaling)
    return cast(torch.Tensor, torch.bmm(torch.softmax(weights, -1), values).unflatten(0, query.shape[:2]))


def _lengthen(states: torch.Tensor, spare: int) -> torch.Tensor:
    return functional.pad(states, (0, 0, 0, spare)) if spare else states


class PlainKernel:
    """The function written out, a sequence at a time in float32, from what a GPU's kernel is given. For checks."""

    name = "plain"

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        queries: SequenceBounds,
        keys: SequenceBounds,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        out = torch.empty_like(query, memory_format=torch.contiguous_format)
        repeats = query.shape[1] // key.shape[1]
        ends = zip(queries.bounds.tolist(), keys.bounds.tolist(), strict=True)
        begin_query, begin_key = next(ends)
        for end_query, end_key in ends:
            asks = query[begin_query:end_query].float().unflatten(1, (-1, repeats))
            scores = torch.einsum("qgrd,kgd->grqk", asks, key[begin_key:end_key].float()) * scaling
            if window is not None:
                scores = scores.masked_fill(~_near(scores.shape[-1], window, query.device), -torch.inf)
            seen = torch.einsum("grqk,kgd->qgrd", scores.softmax(-1), value[begin_key:end_key].float())
            out[begin_query:end_query] = seen.flatten(1, 2).to(out.dtype)
            begin_query, begin_key = end_query, end_key
        return out


def _near(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Which tokens of a sequence are less than `window` away from which."""
    place = torch.arange(length, device=device)
    return (place[:, None] - place).abs() < window


def kernels_for(device: torch.device, dtype: torch.dtype) -> tuple[VarlenKernel, ...]:
    """Kernels to try, the fastest first; the last of them runs everywhere."""
    return (RunsKernel(),) if flash_obstacle(device, dtype) else (FlashKernel(), RunsKernel())
