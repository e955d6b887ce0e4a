"""Score the same pairs by different means in one run, and say how fast and how far apart they are.

    python benchmarks/run.py
    python benchmarks/run.py --models xlmr-base --workloads mixed --pairs 100 --rounds 5
    python benchmarks/run.py --entries ours:bfloat16 crossencoder:bfloat16:best vllm:bfloat16 --workloads short

Every entry is a process of its own that stays loaded. In each round all entries score all pairs once, one after the
other, in the opposite order of the round before; a run of 64 pairs that does not count goes before each. The first
entry is the one that the others are compared with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import models
import numpy as np
import peers
import workloads
from contestants import Entry
from results import write_results
from tokenizers import Tokenizer

HERE = Path(__file__).parent
ENTRIES = (
    "crossencoder:float32",
    "crossencoder:bfloat16:best",
    "transformers:float32",
    "transformers:bfloat16",
    "ours:float32",
    "ours:bfloat16",
)
PEER_ENTRIES = {
    "openvino": ("openvino:auto", "openvino:auto:best"),
    "flagembedding": ("flagembedding:float32", "flagembedding:float32:best"),
    "vllm": ("vllm:float32", "vllm:bfloat16"),
}
BATCHES = {"cpu": (8, 16, 32, 64), "cuda": (32, 64, 128, 256)}
TRUTH = "transformers:float32"
TUNING_PAIRS = 128
TOP = 10


class WorkerError(Exception):
    """A contestant cannot do what it was asked; the message is the reason to print."""


class Worker:
    """A contestant's process."""

    def __init__(self, entry: Entry, log: Path) -> None:
        python = peers.python_of(entry.kind) if entry.kind in peers.REQUIREMENTS else Path(sys.executable)
        environment = os.environ | {"PYTHONPATH": str(HERE.parent), "TOKENIZERS_PARALLELISM": "true"}
        environment |= peers.environment_of(entry.kind)
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [str(python), str(HERE / "worker.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into, self._out_of = self._process.stdin, self._process.stdout
        self._log = log

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            WorkerError: The contestant raised, or its process died.
        """
        try:
            self._into.write(json.dumps({"do": command} | arguments) + "\n")
            self._into.flush()
            line = self._out_of.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process ended with exit code {self._process.wait()}; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"].strip().splitlines()[0])
        return answer

    def close(self) -> None:
        self._into.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Race:
    """One model and one workload: who takes part, and what was measured of each."""

    def __init__(self, shape: models.Shape, workload: workloads.Workload, *, device: str, folder: Path) -> None:
        self.shape = shape
        self.workload = workload
        self.device = device
        self.folder = folder
        self.entries: dict[str, dict[str, Any]] = {}
        self.peaks: dict[str, list[float]] = {}
        self.left_out: dict[str, str] = {}
        self._workers: dict[str, Worker] = {}
        self._pairs = self._write("pairs", workload.pairs)
        self._some_pairs = self._write("some-pairs", workload.pairs[:: max(1, len(workload.pairs) // TUNING_PAIRS)])

    def run(self, names: Sequence[str], *, rounds: int, warm_up: int) -> None:
        """Load everybody, score in turns, and compare the last logits of each with plain float32."""
        truth = self._truth()
        with ExitStack() as stack:
            for name in names:
                with self._or_left_out(name):
                    self._workers[name], self.entries[name] = self._load(name, stack)
            for dtype in sorted({Entry.parse(name).dtype for name in self.entries} - {"auto"}):
                self._workers[f"peak:{dtype}"], _ = self._load(f"peak:{dtype}", stack)
                self.peaks[dtype] = []
            for number in range(rounds):
                self._round(number, warm_up)
        queries = [query for query, _ in self.workload.pairs]
        for name, entry in self.entries.items():
            if truth is not None:
                entry |= differences(np.load(self._file(name, "npy")), truth, queries)

    def _truth(self) -> Any:
        """Logits of plain transformers in float32, by a process that is gone when the race begins."""
        with ExitStack() as stack, self._or_left_out(TRUTH):
            say(f"{self.shape.name} {self.workload.name}: reference scores")
            worker, _ = self._load("crossencoder:float32" if self.shape.modules else TRUTH, stack)
            worker.ask("score", pairs=self._pairs, warm_up=0, logits=self._file("truth", "npy"))
            return np.load(self._file("truth", "npy"))
        return None

    def _load(self, name: str, stack: ExitStack) -> tuple[Worker, dict[str, Any]]:
        entry = Entry.parse(name)
        if entry.kind in peers.REQUIREMENTS and not peers.is_ready(entry.kind):
            raise WorkerError(f"not set up (python benchmarks/peers.py setup {entry.kind})")
        say(f"  load {name}")
        worker = Worker(entry, Path(self._file(name, "log")))
        stack.callback(worker.close)
        limits = {"recipe": self.shape.recipe, "max_tokens": self.shape.max_tokens}
        folder = str(models.folder_of(self.shape))
        loaded = worker.ask("load", entry=name, folder=folder, device=self.device, **limits)
        if entry.batch == "best":
            loaded |= worker.ask("tune", pairs=self._some_pairs, batches=BATCHES[self.device])
            say(f"  {name}: {loaded['batch']} pairs a batch")
        return worker, loaded | {"seconds": []}

    def _round(self, number: int, warm_up: int) -> None:
        """Let everybody score all pairs once; odd rounds go backwards."""
        names = list(self._workers)
        for name in reversed(names) if number % 2 else names:
            with self._or_left_out(name):
                if name.startswith("peak:"):
                    self.peaks[Entry.parse(name).dtype].append(self._workers[name].ask("peak")["flops"])
                    continue
                files = {"pairs": self._pairs, "logits": self._file(name, "npy")}
                answer = self._workers[name].ask("score", warm_up=warm_up, **files)
                say(f"  round {number + 1}: {name:28} {answer['seconds']:8.2f} s")
                self.entries[name]["seconds"].append(answer.pop("seconds"))
                self.entries[name] |= answer

    @contextmanager
    def _or_left_out(self, name: str) -> Iterator[None]:
        """Nobody is dropped in silence: the reason stands in the result."""
        try:
            yield
        except WorkerError as error:
            self.left_out[name] = str(error)
            self._workers.pop(name, None)
            self.entries.pop(name, None)
            say(f"  {name} is left out: {error}")

    def result(self) -> dict[str, Any]:
        return {
            "model": self.shape.name,
            "workload": self.workload.name,
            "pairs": len(self.workload.pairs),
            "tokens": sum(self.workload.tokens),
            "flops": self.shape.flops(self.workload.tokens),
            "peaks": self.peaks,
            "entries": self.entries,
            "left_out": self.left_out,
        }

    def _write(self, name: str, value: Any) -> str:
        path = Path(self._file(name, "json"))
        path.write_text(json.dumps(value), encoding="utf-8")
        return str(path)

    def _file(self, name: str, suffix: str) -> str:
        return str(self.folder / f"{name.replace(':', '-')}.{suffix}")


def differences(logits: np.ndarray, truth: np.ndarray, queries: Sequence[str]) -> dict[str, float]:
    """How far scores are from float32, absolutely and in standard deviations, and how many of the top 10 stay."""
    largest = float(np.abs(logits - truth).max())
    groups: dict[str, list[int]] = {}
    for at, query in enumerate(queries):
        groups.setdefault(query, []).append(at)
    shares = [shared_top(logits[rows], truth[rows]) for rows in groups.values() if len(rows) > TOP]
    overlap = float(np.mean(shares)) if shares else float("nan")
    spread = float(truth.std())
    return {"largest_difference": largest, "largest_difference_in_std": largest / spread, "top10_overlap": overlap}


def shared_top(one: np.ndarray, other: np.ndarray) -> float:
    tops = (set(np.argsort(-scores, kind="stable")[:TOP].tolist()) for scores in (one, other))
    return len(set.intersection(*tops)) / TOP


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def race_all(arguments: argparse.Namespace, *, until: float = math.inf) -> dict[str, Any]:
    """Run every chosen model on every chosen workload; results are written after each, so that none is lost.

    None begins after `until`, on the clock of `time.monotonic`.
    """
    results: dict[str, Any] = {"machine": machine(arguments.device), "settings": settings_of(arguments), "cases": []}
    for shape in (models.SHAPES[name] for name in arguments.models):
        folder = models.write(shape)
        for name in arguments.workloads:
            if time.monotonic() > until:
                say(f"{shape.name} {name} is left out: no time is left for it")
                continue
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            prompt = shape.prompt_tokens(tokenizer)
            limits = {"num_pairs": arguments.pairs, "max_tokens": shape.max_tokens - prompt}
            workload = workloads.build(name, tokenizer, seed=arguments.seed, **limits)
            workload = replace(workload, tokens=[length + prompt for length in workload.tokens])
            aside = arguments.out / f"{shape.name}-{name}"
            aside.mkdir(parents=True, exist_ok=True)
            race = Race(shape, workload, device=arguments.device, folder=aside)
            race.run(arguments.entries, rounds=arguments.rounds, warm_up=arguments.warm_up)
            results["cases"].append(race.result())
            write_results(results, arguments.out)
    return results


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    import torch

    found = {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    return found | {"date": datetime.now(UTC).date().isoformat(), "load_before": round(os.getloadavg()[0], 2)}


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(arguments).items() if name != "out"}


def parse(arguments: Sequence[str] | None, **defaults: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", choices=sorted(models.SHAPES), default=["minilm-l6"])
    add("--workloads", nargs="+", choices=workloads.NAMES, default=["short", "mixed"])
    add(
        "--entries",
        nargs="+",
        type=checked,
        metavar="KIND:DTYPE[:BATCH]",
        help="who takes part; the first is compared with",
    )
    add(
        "--peers", nargs="*", choices=sorted(peers.REQUIREMENTS), default=sorted(peers.REQUIREMENTS), help="beside them"
    )
    add("--rounds", type=int, default=3)
    add("--pairs", type=int, default=300)
    add("--warm-up", type=int, default=64, help="pairs of the run that does not count, before each that does")
    add("--seed", type=int, default=0)
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--out", type=Path, default=Path("out/bench"))
    parser.set_defaults(**defaults)
    chosen = parser.parse_args(arguments)
    if chosen.entries is None:
        chosen.entries = [*ENTRIES, *(entry for peer in chosen.peers for entry in PEER_ENTRIES[peer])]
    return chosen


def checked(text: str) -> str:
    try:
        return str(Entry.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main() -> None:
    race_all(parse(None))


if __name__ == "__main__":
    main()
