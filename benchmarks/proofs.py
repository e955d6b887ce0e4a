"""What a device must do right before its speed is worth measuring. Each proof gives a figure, or says what went wrong.

On a CPU the branch of a GPU runs with a plain kernel in place of a GPU's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import families
import numpy as np
import torch
from transformers import PreTrainedModel

from reranker_batch.core.inputs import TokenInputs, as_tokens
from reranker_batch.core.pairs import encode_text_pairs
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.forward.agreement import trial_logits
from reranker_batch.model.forward.batch_tokens import find_batch_tokens
from reranker_batch.model.forward.choosing import choose_causal_forward, choose_forward
from reranker_batch.model.forward.kernel_check import AttentionShape, kernel_fault
from reranker_batch.model.forward.kernels import FlashKernel, PlainKernel, RunsKernel, VarlenKernel, flash_obstacle
from reranker_batch.model.forward.packed import PackedForward
from reranker_batch.model.forward.padded import Forward, PaddedForward
from reranker_batch.model.recipes import choose_recipe
from reranker_batch.model.scorer import ModelScorer, load_scorer
from reranker_batch.model.source.files import resolve_model

Test = Callable[[torch.device], str]
HERE = Path(__file__).parent
EXACT = 1e-5
HALF = (torch.bfloat16, torch.float16)
HEAD_SIZES = {"cpu": (16,), "cuda": (8, 32, 64, 80, 128, 256)}
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "the", "river", "bank"]


class ProofError(Exception):
    """A proof failed; the message says what was seen."""


class NotHereError(Exception):
    """The device cannot show this; the message says why."""


@dataclass(frozen=True)
class Proof:
    """How a proof ended. `outcome` is `proved`, `failed` or `not here`."""

    name: str
    outcome: str
    figure: str
    seconds: float


def prove_all(device: torch.device, proofs: Mapping[str, Test] | None = None) -> Iterator[dict[str, Any]]:
    """Run every proof, one after the other, whatever the one before gave."""
    for name, proof in (proofs or PROOFS).items():
        start = time.perf_counter()
        try:
            outcome, figure = "proved", proof(device)
        except NotHereError as error:
            outcome, figure = "not here", str(error)
        except Exception as error:  # any error is a proof that failed, and the next ones still matter
            outcome, figure = "failed", f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        yield asdict(Proof(name, outcome, figure, round(time.perf_counter() - start, 2)))


def require(condition: bool, seen: str) -> None:
    if not condition:
        raise ProofError(seen)


def kernels_of(device: torch.device, dtype: torch.dtype) -> list[VarlenKernel]:
    """Every kernel that can run here, that of a GPU first."""
    fast: list[VarlenKernel] = [] if flash_obstacle(device, dtype) else [FlashKernel()]
    return [*fast, RunsKernel(), PlainKernel()]


def lone_kernels(device: torch.device) -> str:
    """Every kernel computes what it should, in every precision, for many shapes of heads and windows."""
    tried = 0
    for dtype in (torch.float32, *HALF):
        for kernel in kernels_of(device, dtype):
            for shape in shapes_to_try(device):
                with torch.inference_mode():
                    fault = kernel_fault(kernel, shape, device=device, dtype=dtype)
                require(fault is None, f"{kernel.name}, {dtype}, {shape}: {fault}")
                tried += 1
    names = [kernel.name for kernel in kernels_of(device, torch.bfloat16)]
    return f"{tried} cases; in half precision: {', '.join(names)}"


def shapes_to_try(device: torch.device) -> Iterator[AttentionShape]:
    for size in HEAD_SIZES[device.type]:
        for repeats, window in product((1, 4), (None, 9, 65)):
            yield AttentionShape(2, repeats, size, size**-0.5, window)


def packed_in_float32(device: torch.device) -> str:
    """Packed gives the logits of padded in float32, for every family, whatever the lengths of the pairs."""
    worst = 0.0
    for name in families.PACKED:
        padded = PaddedForward(families.packed_model(name).to(device), device)
        for kernel in kernels_of(device, torch.float32):
            packed = PackedForward(families.packed_model(name).to(device), device, kernel)
            for seed, lengths in enumerate(lengths_to_try()):
                pairs = families.random_pairs(lengths, seed)
                difference = apart(packed, padded, pairs)
                require(difference <= EXACT, f"{name}, {kernel.name}, lengths {lengths}: {difference:.1e}")
                worst = max(worst, difference)
    return f"{len(families.PACKED)} shapes of models, largest difference {worst:.1e}"


def lengths_to_try() -> Iterator[list[int]]:
    rng = np.random.default_rng(0)
    yield from ([1], [families.LONGEST], [1, families.LONGEST, 1], [37] * 9)
    for _ in range(4):
        yield rng.integers(1, families.LONGEST + 1, rng.integers(2, 40)).tolist()


def apart(one: Forward, other: Forward, pairs: TokenInputs) -> float:
    logits = [families.logits_of(forward, pairs, budget) for forward, budget in ((one, 700), (other, 900))]
    return float(np.abs(logits[0] - logits[1]).max())


def prefixes_in_float32(device: torch.device) -> str:
    """A causal model gives the logits of its own pass where pairs share their prefixes."""
    pairs = families.grouped_pairs(6, 8, seed=0)
    forward: Any = choose_causal_forward(families.causal_model().to(device), (10, 11), pairs, device=device)
    difference = float(np.abs(families.logits_of(forward, pairs, 700) - forward.plain_logits(pairs.ids)).max())
    require(difference <= EXACT, f"largest difference {difference:.1e}")
    return f"{len(pairs)} pairs, largest difference {difference:.1e}"


def half_precision(device: torch.device) -> str:
    """Every family is run packed in half precision, by a GPU's own kernel where it has one, and near float32."""
    trial = families.random_pairs([*range(1, families.LONGEST, 4), 17, 17, families.LONGEST], seed=5)
    ratios = []
    for dtype in HALF:
        fastest = kernels_of(device, dtype)[0] if device.type == "cuda" else PlainKernel()
        for name in families.PACKED:
            model: PreTrainedModel = families.packed_model(name, dtype).to(device)
            wide = trial_logits(PaddedForward(families.packed_model(name, dtype).float().to(device), device), trial)
            plain = trial_logits(PaddedForward(model, device), trial)
            forward: Any = choose_forward(model, trial, device=device, kernels=[fastest])
            require(forward.name == "packed", f"{name} in {dtype} is padded")
            ratios.append(rms(trial_logits(forward, trial) - wide) / rms(plain - wide))
        pairs = families.grouped_pairs(6, 8, seed=0)
        choose_causal_forward(families.causal_model(dtype).to(device), (10, 11), pairs, device=device)
    return (
        f"by {fastest.name}; as far from float32 as padded, times {np.median(ratios):.2f} (at most {max(ratios):.2f})"
    )


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def builtin_scorer(device: torch.device, dtype: str, **settings: Any) -> tuple[ModelScorer[Any], TokenInputs]:
    """The model that ships with the package, and some thousand pairs."""
    files = resolve_model("builtin:mini")
    recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
    encoder = load_pair_encoder(files.folder, recipe=recipe)
    count = 4000 if device.type == "cuda" else 60
    texts = [("who jumps", " ".join(WORDS[at % 7 :] * (1 + at % 9))) for at in range(count)]
    scorer = load_scorer(files.folder, encoder, recipe=recipe, dtype=dtype, device=device.type, **settings)
    return scorer, as_tokens(encode_text_pairs(encoder, texts).inputs)


def drift(device: torch.device) -> str:
    """Half precision moves the logits of trained weights by a small part of their spread."""
    logits = {}
    for dtype in ("float32", "bfloat16", "float16"):
        scorer, pairs = builtin_scorer(device, dtype)
        require(scorer.forward.name == "packed", f"builtin:mini is {scorer.forward.name} in {dtype}")
        logits[dtype] = scorer.score(pairs).logits
    spread = float(np.std(logits["float32"]))
    moved = {name: float(np.abs(logits[name] - logits["float32"]).max()) for name in ("bfloat16", "float16")}
    require(max(moved.values()) < 0.25 * spread, f"{moved}, and the standard deviation is {spread:.2f}")
    return f"bfloat16 {moved['bfloat16']:.1e}, float16 {moved['float16']:.1e}; standard deviation {spread:.2f}"


def token_budget(device: torch.device) -> str:
    """The budget found is one that fits, and it is smaller where there is less memory."""
    scorer, pairs = builtin_scorer(device, "auto")
    roomy = scorer.max_batch_tokens
    if device.type != "cuda":
        return f"{roomy:,} tokens"
    kept = 3 << 28
    hog = torch.empty(max(0, torch.cuda.mem_get_info()[0] - kept), dtype=torch.uint8, device=device)
    tight = find_batch_tokens(scorer.forward, longest_pair=512, device=device)
    scores = scorer.with_budget(tight).score(pairs)
    del hog
    torch.cuda.empty_cache()
    require(tight <= roomy, f"{tight} tokens with little memory, {roomy} with all of it")
    require(scores.oom_splits == 0 and not scores.failures, f"{tight} tokens did not fit: {scores.oom_splits} splits")
    return f"{roomy:,} tokens, and {tight:,} with {kept >> 20} MiB free"


def out_of_memory(device: torch.device) -> str:
    """Where memory runs out, micro-batches are halved and every pair gets the score that it has with more memory."""
    if device.type != "cuda":
        raise NotHereError("memory is limited on a CUDA device only")
    scorer, pairs = builtin_scorer(device, "float32", max_batch_tokens=1 << 19)
    whole = scorer.with_budget(1 << 14).score(pairs)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (256 << 20)) / total)
    try:
        pieces = scorer.score(pairs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    difference = float(np.abs(pieces.logits - whole.logits).max())
    require(pieces.oom_splits > 0, "memory did not run out")
    require(not pieces.failures and difference < 1e-3, f"{len(pieces.failures)} refused, difference {difference:.1e}")
    return f"halved {pieces.oom_splits} times, largest difference {difference:.1e}"


def deadly_pair(device: torch.device) -> str:
    """A pair that the device cannot survive ends its process, and a fresh one scores the others."""
    dead, alive = (
        subprocess.run(
            [sys.executable, str(HERE / "deadly_pair.py"), device.type, what],
            env=os.environ | {"PYTHONPATH": str(HERE.parent), "CUDA_LAUNCH_BLOCKING": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        for what in ("deadly", "healthy")
    )
    said = dead.stderr.strip().partition("\n")[0] if device.type == "cpu" else _cuda_error(dead.stderr)
    require(dead.returncode != 0, "the pair did no harm")
    require(device.type == "cpu" or not dead.stdout.strip(), "the process scored pairs after the error")
    require(alive.returncode == 0, f"the fresh process ended with {alive.returncode}: {alive.stderr[-300:]}")
    return f"exit code {dead.returncode} ({said[:90]}); a fresh process scored {alive.stdout.strip()} pairs"


def _cuda_error(said: str) -> str:
    found = [line for line in said.splitlines() if "CUDA error" in line]
    require(bool(found), f"no CUDA error: {said[-300:]}")
    return found[0]


PROOFS: Mapping[str, Test] = {
    "kernels alone": lone_kernels,
    "packed, float32": packed_in_float32,
    "shared prefix, float32": prefixes_in_float32,
    "packed, half precision": half_precision,
    "drift of trained weights": drift,
    "token budget": token_budget,
    "out of memory": out_of_memory,
    "deadly pair": deadly_pair,
}
