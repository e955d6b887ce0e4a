"""The same race on a GPU, without Ray: needs torch, transformers and pyarrow, and sentence-transformers if it is there.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --models bge-reranker-v2-m3 --workloads mixed short --pairs 8000 --rounds 5

Options are those of run.py. Without sentence-transformers its place is taken by `bycharacters`, plain transformers
batched in its way, which the results then name.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from run import parse, race_all, say


def entries() -> list[str]:
    """The first is the one that the others are compared with."""
    peer = "crossencoder" if find_spec("sentence_transformers") else "bycharacters"
    return [f"{peer}:bfloat16", f"{peer}:bfloat16:best", "transformers:bfloat16", "ours:bfloat16"]


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("No GPU is seen by torch on this machine; benchmarks/run.py is for CPUs.")
    if not find_spec("sentence_transformers"):
        say("sentence-transformers is not installed: bycharacters takes its place")
    race_all(
        parse(
            arguments,
            device="cuda",
            models=["minilm-l6", "bge-reranker-v2-m3"],
            workloads=["short", "mixed"],
            entries=entries(),
            peers=[],
            pairs=4000,
            rounds=5,
        )
    )


if __name__ == "__main__":
    main()
