"""From the command to its exit: one query with 30 candidates, where starting is all the work.

    python benchmarks/start.py [--rounds 3] [--engines local ray]

A ten-line script around sentence-transformers' CrossEncoder takes turns with this project on both engines; all read and
write Parquet, with the model that ships with the package. Wall time depends on what else the machine does; CPU seconds
of all processes do so less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import psutil

ROOT = Path(__file__).resolve().parents[1]
BUILTIN = ROOT / "reranker_batch" / "builtin"
NUM_PAIRS = 30
POLL_S = 0.02
PEER = """
import sys
import polars as pl
from sentence_transformers import CrossEncoder
model, source, target = sys.argv[1:]
table = pl.read_parquet(source).explode("candidates").unnest("candidates")
scores = CrossEncoder(model, device="cpu").predict(list(table.select("query", "text").iter_rows()))
table = table.with_columns(pl.Series("score", scores)).sort("query_id", "score", descending=[False, True])
table.write_parquet(target)
"""


@dataclass
class Took:
    """Seconds of one command: by the clock, of all its processes' CPU, and of each phase that its files tell."""

    wall_s: float
    cpu_s: float
    phases: dict[str, float] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="*", default=["local", "ray"], choices=["local", "ray"])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.parquet")
        pl.read_parquet(BUILTIN / "demo.parquet").head(1).write_parquet(source)
        taken: dict[str, list[Took]] = {}
        for number in range(options.rounds):
            taken.setdefault("peer", []).append(run_peer(source, Path(folder, f"peer{number}.parquet")))
            for engine in options.engines:
                output = Path(folder, f"{engine}{number}")
                taken.setdefault(engine, []).append(run_job(engine, source, output))
    show(taken)


def run_peer(source: Path, target: Path) -> Took:
    took = watched([sys.executable, "-c", PEER, str(BUILTIN / "mini"), str(source), str(target)])
    assert pl.read_parquet(target).height == NUM_PAIRS
    return took


def run_job(engine: str, source: Path, output: Path) -> Took:
    settings = {
        "input.path": source,
        "model.name": "builtin:mini",
        "model.device": "cpu",
        "output.path": output,
        "runtime.engine": engine,
    }
    config = output.with_suffix(".yaml")
    config.write_text("{}")
    sets = [f"{name}={value}" for name, value in settings.items()]
    started = time.time()
    took = watched(
        [sys.executable, "-m", "reranker_batch", "run", str(config), *(word for one in sets for word in ("--set", one))]
    )
    assert pl.read_parquet(output / "scores" / "*.parquet").height == NUM_PAIRS
    took.phases = phases_of(output, started, started + took.wall_s)
    return took


def phases_of(output: Path, started: float, ended: float) -> dict[str, float]:
    """The times of files say when a phase ended."""
    (part,) = (output / "scores").glob("*.parquet")
    ends = {
        "import, check, plan, open the engine": (output / "run" / "manifest.json").stat().st_mtime,
        "prepare, load the model, score, publish": part.stat().st_mtime,
        "close the engine, report": (output / "scores" / "_SUCCESS").stat().st_mtime,
        "exit": ended,
    }
    starts = [started, *ends.values()]
    return {name: end - start for (name, end), start in zip(ends.items(), starts, strict=False)}


def watched(command: list[str]) -> Took:
    """Run a command; the CPU seconds are those last seen of each process that it started."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    cpu: dict[int, float] = {}
    while process.poll() is None:
        for one in family(process.pid):
            try:
                times = one.cpu_times()
            except psutil.Error:
                continue
            cpu[one.pid] = times.user + times.system
        time.sleep(POLL_S)
    took = Took(time.monotonic() - started, sum(cpu.values()))
    if process.returncode:
        raise SystemExit(f"{command} failed: {process.stderr.read().decode() if process.stderr else ''}")
    return took


def family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def show(taken: dict[str, list[Took]]) -> None:
    peer = statistics.median(one.wall_s for one in taken["peer"])
    for name, all_of_it in taken.items():
        wall = statistics.median(one.wall_s for one in all_of_it)
        cpu = statistics.median(one.cpu_s for one in all_of_it)
        print(f"{name:6} {wall:6.1f} s, {cpu:6.1f} s of CPU, {wall / peer:.1f} times the peer's time")
        for phase in all_of_it[0].phases:
            print(f"         {statistics.median(one.phases[phase] for one in all_of_it):6.1f} s {phase}")


if __name__ == "__main__":
    main()
