"""Prove on a GPU that scores are right, then race there; without Ray and in under ten minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --models bge-reranker-v2-m3 --workloads mixed short --pairs 8000 --rounds 5
    python benchmarks/gpu.py --device cpu

It needs torch, transformers, pyarrow and polars, and sentence-transformers if it is there; without it plain
transformers batched in its way (`bycharacters`) takes its place, which the results then name. Options are those of
run.py. A table is printed, `gpu.json` and the files of the race go to `--out`, and the exit code is 1 if a proof fails.
With `--device cpu` the proofs run on a CPU, with a plain kernel in place of a GPU's own; nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from run import machine, parse, race_all, say

RACE_MINUTES = 7.0
"""A race that would begin later than this is left out, so that all of it ends within ten minutes."""
MARKS = {"proved": "ok", "failed": "FAILED", "not here": "-"}


def entries() -> list[str]:
    """The first is the one that the others are compared with."""
    peer = "crossencoder" if find_spec("sentence_transformers") else "bycharacters"
    return [f"{peer}:bfloat16", f"{peer}:bfloat16:best", "transformers:bfloat16", "ours:bfloat16"]


def arguments_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    return parse(
        arguments,
        device="cuda",
        models=["minilm-l6", "bge-reranker-v2-m3"],
        workloads=["mixed"],
        entries=entries(),
        peers=[],
        pairs=2000,
        rounds=3,
    )


def prove(device: str) -> list[dict[str, Any]]:
    """Run the proofs and print a row for each as it ends."""
    import torch
    from proofs import prove_all

    done = []
    for proof in prove_all(torch.device(device)):
        print(
            f"{MARKS[proof['outcome']]:>6} {proof['seconds']:7.1f} s  {proof['name']:26} {proof['figure']}", flush=True
        )
        done.append(proof)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    import torch

    chosen = arguments_of(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("No GPU is seen by torch on this machine. --device cpu runs the proofs without one.")
    start = time.monotonic()
    results: dict[str, Any] = {"machine": machine(chosen.device), "proofs": prove(chosen.device), "race": None}
    if chosen.device == "cuda":
        torch.cuda.empty_cache()
        if not find_spec("sentence_transformers"):
            say("sentence-transformers is not installed: bycharacters takes its place")
        results["race"] = race_all(chosen, until=start + 60 * RACE_MINUTES)
        print((chosen.out / "results.md").read_text(encoding="utf-8"))
    else:
        print("No GPU figure was measured: this was a CPU.")
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return exit_code(results["proofs"])


def exit_code(done: Sequence[dict[str, Any]]) -> int:
    """1 if a proof failed."""
    return int(any(proof["outcome"] == "failed" for proof in done))


if __name__ == "__main__":
    sys.exit(main())
