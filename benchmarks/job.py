"""The whole job, Parquet to Parquet, beside the scorer alone and beside the two scripts that people write today.

    python benchmarks/job.py
    python benchmarks/job.py --model xlmr-base --pairs 400 --growth 4 --jobs ours ray

Each job is a process of its own and runs on three inputs: one query, `--pairs` pairs and `--growth` times as many. The
first says what starting costs, before and after each of the others, which say how the time grows. `scorer` is a
resident process that scores the pairs of the second input from memory after every longer job. Odd rounds go backwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import workloads
import yaml
from contestants import Entry
from results import write_job
from run import HERE, Worker, machine, say, settings_of
from tokenizers import Tokenizer

SAMPLE_EVERY_S = 0.5
START = "start"
ALONE = "1x"
"""The input whose pairs the scorer scores without a job."""


@dataclass
class Input:
    """A table of candidates, and what it holds."""

    path: Path
    workload: workloads.Workload
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, list[int]] = field(default_factory=dict)


def write_input(workload: workloads.Workload, folder: Path) -> Input:
    """The nested layout, which all jobs read: a row a query with its candidates."""
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for at, (query, document) in enumerate(workload.pairs):
        key = (query, at // workloads.DOCUMENTS_A_QUERY)
        rows.setdefault(key, []).append({"doc_id": f"d{at}", "text": document})
    table = pa.table(
        {
            "query_id": [f"q{number}" for _, number in rows],
            "query": [query for query, _ in rows],
            "candidates": list(rows.values()),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "candidates.parquet"
    pq.write_table(table, path, row_group_size=100)
    return Input(path, workload)


# --- the jobs ----------------------------------------------------------------------------------------


def ours(source: Path, target: Path, model: Path, dtype: str) -> list[str]:
    config = {
        "input": {"path": str(source)},
        "model": {"name": str(model), "dtype": dtype, "device": "cpu"},
        "limits": {"profile": "none"},
        "ranking": {"top_n": 10},
        "output": {"path": str(target)},
    }
    path = target.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return [str(HERE.parent / "jobs" / "rerank.py"), "--config", str(path)]


def pandas(source: Path, target: Path, model: Path, dtype: str) -> list[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    return [str(HERE / "scripts" / "pandas_crossencoder.py"), str(source), str(target), str(model), dtype]


def ray(source: Path, target: Path, model: Path, dtype: str) -> list[str]:
    return [str(HERE / "scripts" / "ray_data_crossencoder.py"), str(source), str(target), str(model), dtype]


JOBS: dict[str, Callable[[Path, Path, Path, str], list[str]]] = {"ours": ours, "pandas": pandas, "ray": ray}


class JobError(Exception):
    """A job did not end well; the message says where its output is."""


def run_job(command: Sequence[str], log: Path) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a process and its descendants.

    Raises:
        JobError: It ended with an exit code other than 0.
    """
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=output, env=environment)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            try:
                process.wait(SAMPLE_EVERY_S)
            except subprocess.TimeoutExpired:
                continue
    seconds = time.perf_counter() - start
    if process.returncode:
        raise JobError(f"exit code {process.returncode}; see {log}")
    return seconds, peak


def memory_of(pid: int) -> int:
    """What each process has for itself, and the largest part that one shares with others."""
    try:
        root = psutil.Process(pid)
        found = [root.memory_info(), *(child.memory_info() for child in root.children(recursive=True))]
    except psutil.Error:  # one ended while it was looked at
        return 0
    return int(sum(one.rss - one.shared for one in found) + max(one.shared for one in found))


# --- the comparison ----------------------------------------------------------------------------------


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    shape = models.SHAPES[arguments.model]
    model = models.write(shape).resolve()
    out = arguments.out.resolve()
    shutil.rmtree(out / "job", ignore_errors=True)
    inputs = make_inputs(shape, model, arguments, out / "job")
    left_out: dict[str, str] = {}
    scorer = load_scorer(shape, model, arguments, out / "job")
    pairs = out / "job" / "pairs.json"
    pairs.write_text(json.dumps(inputs[ALONE].workload.pairs), encoding="utf-8")
    order = [START, *(turn for name in inputs if name != START for turn in (name, START))]
    for number in range(arguments.rounds):
        turns = [(name, job) for name in order for job in arguments.jobs]
        for name, job in reversed(turns) if number % 2 else turns:
            if job not in left_out:
                take_turn(job, name, inputs[name], number, model, arguments, left_out)
            if name != START:
                answer = scorer.ask("score", pairs=str(pairs), warm_up=64, logits=str(pairs.with_suffix(".npy")))
                inputs[ALONE].seconds.setdefault("scorer", []).append(answer["seconds"])
                say(f"  round {number + 1}: scorer alone, {ALONE}: {answer['seconds']:.1f} s")
    scorer.close()
    results = {
        "machine": machine("cpu"),
        "settings": settings_of(arguments),
        "inputs": {name: measured(one) for name, one in inputs.items()},
        "left_out": left_out,
    }
    write_job(results, out)
    return results


def make_inputs(shape: models.Shape, model: Path, arguments: argparse.Namespace, folder: Path) -> dict[str, Input]:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    sizes = {START: workloads.DOCUMENTS_A_QUERY, ALONE: arguments.pairs}
    sizes |= {f"{arguments.growth}x": arguments.pairs * arguments.growth} if arguments.growth > 1 else {}
    return {
        name: write_input(
            workloads.build(arguments.workload, tokenizer, num_pairs=size, max_tokens=shape.max_tokens), folder / name
        )
        for name, size in sizes.items()
    }


def load_scorer(shape: models.Shape, model: Path, arguments: argparse.Namespace, folder: Path) -> Worker:
    entry = Entry("ours", arguments.dtype)
    worker = Worker(entry, folder / "scorer.log")
    settings = {"device": "cpu", "recipe": shape.recipe, "max_tokens": shape.max_tokens}
    worker.ask("load", entry=str(entry), folder=str(model), **settings)
    return worker


def take_turn(
    job: str, name: str, one: Input, number: int, model: Path, arguments: argparse.Namespace, left_out: dict[str, str]
) -> None:
    target = one.path.parent / f"{job}-{len(one.seconds.get(job, []))}"
    try:
        command = JOBS[job](one.path, target, model, arguments.dtype)
        seconds, memory = run_job(command, target.with_suffix(".log"))
    except JobError as error:
        left_out[job] = str(error)
        say(f"  {job} is left out: {error}")
        return
    one.seconds.setdefault(job, []).append(seconds)
    one.memory.setdefault(job, []).append(memory)
    say(f"  round {number + 1}: {job}, {name}: {seconds:.1f} s, {memory / 2**30:.1f} GiB")


def measured(one: Input) -> dict[str, Any]:
    tokens = sum(one.workload.tokens)
    return {"pairs": len(one.workload.pairs), "tokens": tokens, "seconds": one.seconds, "memory_bytes": one.memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", choices=sorted(models.SHAPES), default="minilm-l6")
    add("--dtype", choices=["float32", "bfloat16"], default="float32")
    add("--workload", choices=workloads.NAMES, default="short")
    add("--jobs", nargs="+", choices=sorted(JOBS), default=list(JOBS))
    add("--pairs", type=int, default=1000)
    add("--growth", type=int, default=16)
    add("--rounds", type=int, default=3)
    add("--out", type=Path, default=Path("out/bench"))
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
