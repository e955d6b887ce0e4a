from __future__ import annotations

from typing import Any

import pytest

from reranker_batch.model.forward.hardware import cpu_capabilities, slow_precision

AVX2 = {"avx2": True, "avx512_bf16": False, "amx_bf16": False, "architecture": "x86_64"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_on_a_cpu_without_instructions_for_it_is_called_slow(dtype: str) -> None:
    assert f"model.dtype={dtype} on a CPU that has no instructions" in (slow_precision(dtype, AVX2) or "")


@pytest.mark.parametrize(
    ("dtype", "capabilities"),
    [
        ("float32", AVX2),
        ("bfloat16", AVX2 | {"avx512_bf16": True}),
        ("bfloat16", {"architecture": "arm64", "bf16": True}),
        ("float16", {"architecture": "arm64", "fp16_arith": True}),
    ],
)
def test_nothing_is_said_where_the_cpu_has_them(dtype: str, capabilities: dict[str, Any]) -> None:
    assert slow_precision(dtype, capabilities) is None


def test_torch_knows_the_names_that_are_asked_for() -> None:
    """A name that torch drops would make every CPU look slow."""
    names = set(cpu_capabilities())
    assert names >= {"avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16"} or names >= {"bf16", "fp16_arith"}
