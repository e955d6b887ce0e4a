"""How time and memory of the driver grow with the number of work units, and of the commands that read an output.

    python benchmarks/growth.py --units 6000
    python benchmarks/growth.py --units 6000 --store s3

The scorer is the oracle of the tests, a hash, so that nearly all time is that of planning, records and files. Each step
is a process of its own. The first run is killed when all but a sixtieth of the parts are published. `--store s3` writes
the output to moto's object store in a process of this machine, which answers one request at a time.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from engine import SmallJob
from oracle import HashScorer

from reranker_batch.core.pairs import PairScores
from reranker_batch.printing import show_table
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output

CANDIDATES = 5
UNITS_A_FILE = 1_000
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class MortalScorer(HashScorer):
    """Kills its process at a unit."""

    at: int
    seen: Iterator[int]

    def score(self, *arguments: Any, **options: Any) -> PairScores:
        if next(self.seen) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(*arguments, **options)


def write_input(folder: Path, units: int) -> None:
    """A query is a unit."""
    folder.mkdir()
    for start in range(0, units, UNITS_A_FILE):
        numbers = range(start, min(start + UNITS_A_FILE, units))
        candidates = [[{"doc_id": f"d{at}", "text": f"text {n} {at}"} for at in range(CANDIDATES)] for n in numbers]
        table = {"query_id": [f"q{n}" for n in numbers], "query": [f"query {n}" for n in numbers]}
        pq.write_table(
            pa.table(table | {"candidates": candidates}), folder / f"{start:08d}.parquet", row_group_size=100
        )


def plan(job: SmallJob, units: int) -> str:
    planned = len(job.job(HashScorer()).plan.units)
    assert planned == units
    return f"{planned:,} units"


def killed_run(job: SmallJob, units: int) -> str:
    job.run(MortalScorer(units - max(1, units // 60), iter(range(units))))
    raise AssertionError("the run was not killed")


def resume(job: SmallJob, units: int) -> str:
    report = job.run()
    assert (report.status, report.units_published) == ("complete", units)
    return f"{report.units_skipped:,} parts checked, {units - report.units_skipped:,} computed"


def status(job: SmallJob, units: int) -> str:
    found = output_status(job.output)
    assert found.state == "complete"
    return found.state


def verify(job: SmallJob, units: int) -> str:
    verification = verify_output(job.output)
    assert verification.problems == []
    assert verification.parts == units
    return f"{verification.parts:,} parts sound"


STEPS: dict[str, Callable[[SmallJob, int], str]] = {
    "plan": plan,
    "run, killed": killed_run,
    "resume": resume,
    "run again": resume,
    "status": status,
    "verify": verify,
}


def measured(name: str, job: SmallJob, units: int) -> tuple[str, ...]:
    """Run a step in a process: its wall time, CPU time, peak memory, and what it says."""
    command = [sys.executable, __file__, "--units", str(units), "--step", name, job.input, job.output]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read().strip()
        _, ended, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(ended)
    wall_s = time.perf_counter() - started
    if process.returncode != (KILLED if name == "run, killed" else 0):
        raise SystemExit(f"the step {name!r} ended with exit code {process.returncode}")
    return name, f"{wall_s:,.1f} s", f"{usage.ru_utime + usage.ru_stime:,.1f} s", f"{usage.ru_maxrss >> 10:,} MiB", said


@contextmanager
def place_for(store: str, folder: Path) -> Iterator[str]:
    """Where the output goes."""
    if store == "local":
        yield str(folder / "out")
        return
    import boto3
    from moto.server import ThreadedMotoServer

    os.environ.update(AWS_ACCESS_KEY_ID="fake", AWS_SECRET_ACCESS_KEY="fake")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="growth")
    try:
        yield f"s3://growth/out?region=us-east-1&endpoint_override={host}:{port}&scheme=http"
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=6_000)
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("places", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        source, output = options.places
        job = SmallJob(source, output, unit_pairs=CANDIDATES)
        print(STEPS[options.step](job, options.units))
        return
    with tempfile.TemporaryDirectory() as name, place_for(options.store, Path(name)) as output:
        write_input(Path(name) / "in", options.units)
        job = SmallJob(f"{name}/in", output, unit_pairs=CANDIDATES)
        rows = [measured(step, job, options.units) for step in STEPS]
    show_table(f"{options.units:,} units, {options.store}", ["step", "wall", "CPU", "peak memory", "result"], rows)


if __name__ == "__main__":
    main()
