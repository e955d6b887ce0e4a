"""Score pairs of the built-in model in a process of its own, one of them with an id that it has no embedding for.

    python benchmarks/deadly_pair.py cuda deadly
    python benchmarks/deadly_pair.py cuda healthy

On a GPU such an id trips an assertion in the device's code, after which nothing in the process runs any more: the
healthy pairs, tried once more, fail as well. On a CPU they are scored, and the exit code is 3.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from proofs import builtin_scorer

from reranker_batch.core.inputs import TokenInputs
from reranker_batch.core.ragged import Ragged


def main(device: str, what: str) -> None:
    scorer, pairs = builtin_scorer(torch.device(device), "auto")
    if what == "deadly":
        ids = [pairs.ids[at] for at in range(len(pairs))]
        ids[len(ids) // 2] = np.full(9, np.iinfo(np.int32).max, dtype=np.int32)
        try:
            scorer.score(TokenInputs.of_ids(Ragged.from_lists(ids)))
        except Exception as error:
            print(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        else:
            sys.exit(0)  # it did no harm
    scores = scorer.score(pairs)
    if scores.failures or not np.isfinite(scores.logits).all():
        sys.exit("not every pair has a score")
    print(len(scores.logits))
    sys.exit(3 if what == "deadly" else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
