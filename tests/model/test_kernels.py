"""Attention kernels of packed rows: all of them compute one function, and a wrong one is found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from wrong_kernels import WRONG, Wrong

from reranker_batch.errors import ModelError
from reranker_batch.model.forward.kernel_check import AttentionShape, kernel_fault
from reranker_batch.model.forward.kernels import (
    FlashKernel,
    PlainKernel,
    RunsKernel,
    SequenceBounds,
    VarlenKernel,
    flash_obstacle,
    kernels_for,
)

CPU = torch.device("cpu")
SHAPES = {
    "plain": AttentionShape(4, 1, 8, 8**-0.5, None),
    "grouped heads": AttentionShape(2, 4, 16, 0.25, None),
    "window": AttentionShape(2, 1, 64, 0.125, 65),
    "narrow window, odd scale": AttentionShape(3, 2, 24, 0.05, 3),
}


@dataclass(frozen=True)
class Case:
    """Random states of sequences of these lengths, as many queries of each as `asking` says."""

    lengths: np.ndarray
    asking: np.ndarray
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @classmethod
    def draw(cls, lengths: list[int], *, is_alone: bool, repeats: int, seed: int) -> Case:
        counts = np.array(lengths, dtype=np.int64)
        asking = np.ones_like(counts) if is_alone else counts
        rng = torch.Generator().manual_seed(seed)
        shapes = ((asking.sum(), 2 * repeats, 8), (counts.sum(), 2, 8), (counts.sum(), 2, 8))
        return cls(counts, asking, *(torch.randn(shape, generator=rng) for shape in shapes))

    def run(self, kernel: VarlenKernel, window: int | None) -> torch.Tensor:
        bounds = SequenceBounds(self.asking, CPU), SequenceBounds(self.lengths, CPU)
        return kernel(self.query, self.key, self.value, *bounds, 0.3, window)

    def expected(self, window: int | None) -> torch.Tensor:
        """Each sequence by itself through torch, with a mask made entry by entry."""
        out, asked, seen = [], 0, 0
        for queries, keys in zip(self.asking.tolist(), self.lengths.tolist(), strict=True):
            mask = [[window is None or abs(q - k) < window for k in range(keys)] for q in range(queries)]
            q, k, v = (
                states[at : at + count].transpose(0, 1)
                for states, at, count in (
                    (self.query, asked, queries),
                    (self.key, seen, keys),
                    (self.value, seen, keys),
                )
            )
            out.append(
                scaled_dot_product_attention(q, k, v, torch.tensor(mask), scale=0.3, enable_gqa=True).transpose(0, 1)
            )
            asked, seen = asked + queries, seen + keys
        return torch.cat(out)


@pytest.mark.parametrize("kernel", [RunsKernel(), PlainKernel()], ids=lambda kernel: kernel.name)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12) | st.lists(st.just(9), min_size=1, max_size=12),
    repeats=st.sampled_from([1, 3]),
    window=st.none() | st.integers(1, 50),
    is_alone=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_every_sequence_is_attended_by_itself(
    kernel: VarlenKernel, lengths: list[int], repeats: int, window: int | None, is_alone: bool, seed: int
) -> None:
    case = Case.draw(lengths, is_alone=is_alone, repeats=repeats, seed=seed)
    seen = None if is_alone else window
    torch.testing.assert_close(case.run(kernel, seen), case.expected(seen), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("right", [RunsKernel(), PlainKernel()], ids=lambda kernel: kernel.name)
def test_a_wrong_kernel_is_found_out_and_its_right_twin_is_not(
    right: VarlenKernel, shape: AttentionShape, dtype: torch.dtype
) -> None:
    assert kernel_fault(right, shape, device=CPU, dtype=dtype) is None
    for fault in WRONG:
        is_seen = shape.window is not None or "window" not in fault
        found = kernel_fault(Wrong(right, fault), shape, device=CPU, dtype=dtype)
        assert (found is not None) == is_seen, f"{fault}: {found}"


def test_a_kernel_that_gives_no_numbers_is_found_out() -> None:
    class Nothing(PlainKernel):
        def __call__(self, query: torch.Tensor, *inputs: Any, **more: Any) -> torch.Tensor:
            return torch.full_like(query, torch.nan)

    assert kernel_fault(Nothing(), SHAPES["plain"], device=CPU, dtype=torch.float32)


def states(heads: int, size: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(100, heads, size, dtype=dtype, device="cuda")


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("key_heads", [12, 4])
def test_the_kernel_of_a_gpu_takes_what_it_is_given(window: int | None, key_heads: int) -> None:
    """Torch checks the call and works out the shape without a device; the numbers are checked at load."""
    bounds = SequenceBounds(np.array([40, 40, 20]), torch.device("cuda"))
    with FakeTensorMode():
        bounds.bounds = torch.empty(4, dtype=torch.int32, device="cuda")
        query, key = states(12, 32), states(key_heads, 32)
        assert FlashKernel()(query, key, key, bounds, bounds, 0.1, window).shape == (100, 12, 32)
        for size in (20, 264):
            with pytest.raises(ModelError, match="multiple of 8"):
                FlashKernel()(states(12, size), states(12, size), states(12, size), bounds, bounds, 0.1, window)


def test_bounds_are_what_kernels_of_a_gpu_want() -> None:
    bounds = SequenceBounds(np.array([3, 1, 5]), CPU)
    assert bounds.bounds.dtype == torch.int32
    assert bounds.bounds.tolist() == [0, 3, 4, 9]
    assert bounds.longest == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_flash_attention_does_not_take_is_run_without_padding_too(dtype: torch.dtype) -> None:
    assert [kernel.name for kernel in kernels_for(CPU, dtype)] == ["runs of equal lengths"]
    assert flash_obstacle(CPU, dtype)
    assert flash_obstacle(torch.device("cuda"), torch.float32) == "it takes bfloat16 and float16, not float32"
    assert [kernel.name for kernel in kernels_for(torch.device("cuda"), torch.float32)] == ["runs of equal lengths"]
