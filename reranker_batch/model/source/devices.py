"""Devices and precisions by name, without torch where that is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reranker_batch.core.backend import Device

_GPU_NODES = ("nvidia[0-9]*", "dxg", "kfd")
"""Of NVIDIA, of Windows, of AMD: without one of them torch is not asked, which takes seconds to import."""


def devices_of(asked: str) -> tuple[Device, ...]:
    """What `model.device` allows, best first."""
    if asked == "auto":
        return ("cuda", "cpu")
    return ("cuda",) if asked == "cuda" else ("cpu",)


def precision_on(device: str, asked: str) -> str:
    """The precision that `model.dtype` means: `auto` is bfloat16 on a GPU and float32 on a CPU."""
    if asked != "auto":
        return asked
    return "bfloat16" if device == "cuda" else "float32"


def device_here(devices: Sequence[Device]) -> Device:
    """The best of these devices that this machine has; the only one is not looked for."""
    if len(devices) == 1:
        return devices[0]
    may_have_gpu = any(path for pattern in _GPU_NODES for path in Path("/dev").glob(pattern))
    return "cuda" if may_have_gpu and has_gpu() else "cpu"


def has_gpu() -> bool:
    """Whether torch sees a GPU on this machine."""
    from reranker_batch.model.source.loading import choose_device  # imports torch

    return choose_device("auto").type == "cuda"
