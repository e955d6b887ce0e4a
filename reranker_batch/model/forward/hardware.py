"""What the CPU of this machine computes in hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "avx10_1", "fp16_arith"),
}
"""Names of `torch.cpu.get_capabilities`, any of which is enough."""


def cpu_capabilities() -> Mapping[str, Any]:
    """Capabilities of this machine's CPU as torch detects them."""
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities()
    return capabilities


def slow_precision(dtype: str, capabilities: Mapping[str, Any]) -> str | None:
    """What to tell who computes in `dtype` on a CPU of these capabilities; None where nothing is wrong with it."""
    instructions = _INSTRUCTIONS.get(dtype)
    if instructions is None or any(capabilities.get(name) for name in instructions):
        return None
    return (
        f"model.dtype={dtype} on a CPU that has no instructions for it: torch imitates them, which makes it several "
        "times slower than float32. Set model.dtype: float32."
    )
