"""Jobs on the hash oracle whose documents say what goes wrong when they are scored.

A document that holds `<kill>` kills the process that scores it, `<raise>` raises, `<refuse>` raises what ends a run,
`<grow>` needs more memory than the process may have, `<hang>` never returns, `<stop>` stops the process as a debugger
does, `<slow>` takes a moment, `<creep>` takes long and reports progress, `<split>` counts as a halved micro-batch. A
mark with a name, as in `<kill:a>`, acts once for every file `a.0`, `a.1`, … in the folder of flags, whatever process
meets it.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from oracle import ByteEncoder, HashScorer, OracleBackend
from tables import Group, nested_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.core.backend import Where
from reranker_batch.core.inputs import ModelInputs, as_tokens
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairScores, ignore_progress
from reranker_batch.errors import ModelError, PairTooLongError
from reranker_batch.job.engine import Replicas
from reranker_batch.job.job import Job
from reranker_batch.job.spec import WorkerSpec
from reranker_batch.storage.input.planning import plan_input

_MARK = re.compile(rb"<(kill|raise|refuse|grow|hang|stop|slow|creep|split)(?::(\w+))?>")
_SLOW_S = 0.3
_SPARE_BYTES = 256 << 20
CREEP_S = 11
"""Longer than the silence that tests allow a replica."""
SILENCE_S = 12


@dataclass(frozen=True)
class Flags:
    """Faults still to happen: a file each, so that every process sees them and none happens twice."""

    folder: Path

    def arm(self, name: str, times: int = 1) -> None:
        self.folder.mkdir(exist_ok=True)
        for number in range(times):
            (self.folder / f"{name}.{number}").touch()

    def take(self, name: str) -> bool:
        """Whether one was left; it is gone now."""
        for flag in self.folder.glob(f"{name}.*"):
            try:
                flag.unlink()
            except FileNotFoundError:
                continue
            return True
        return False


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _grow() -> None:
    """Ask for what a limit of the system refuses, as it does for a process in a container."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    np.ones(4 * _SPARE_BYTES, np.uint8)


def _creep(on_progress: Callable[[int], None]) -> None:
    for scored in range(CREEP_S):
        time.sleep(1)
        on_progress(scored)


class FaultyScorer(HashScorer):
    """Does what the documents say, then scores them."""

    def __init__(self, flags: Flags) -> None:
        self._flags = flags

    def score(
        self,
        inputs: ModelInputs,
        *,
        one_by_one: bool = False,
        on_progress: Callable[[int], None] = ignore_progress,
    ) -> PairScores:
        text = (as_tokens(inputs).ids.values - 3).clip(0, 255).astype("uint8").tobytes()
        for action, name in dict.fromkeys(_MARK.findall(text)):
            if not name or self._flags.take(name.decode()):
                self._act(action)
                if action == b"creep":
                    _creep(on_progress)
        return replace(super().score(inputs), oom_splits=text.count(b"<split>"))

    def _act(self, action: bytes) -> None:
        if action == b"kill":
            _die()
        if action == b"stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if action == b"grow":
            _grow()
        if action == b"raise":
            raise ValueError("the text says so")
        if action == b"refuse":
            raise PairTooLongError("a pair is too long")
        time.sleep({b"hang": 3600.0, b"slow": _SLOW_S}.get(action, 0.0))


class FaultyEncoder(ByteEncoder):
    """Ends the process that prepares a unit, for every flag `prepare`."""

    def __init__(self, flags: Flags) -> None:
        super().__init__()
        self._flags = flags

    def encode_texts(self, *arguments: Any, **options: Any) -> Any:
        if self._flags.take("prepare"):
            _die()
        return super().encode_texts(*arguments, **options)


@dataclass(frozen=True, kw_only=True)
class FaultyBackend(OracleBackend):
    """The oracle, whose loading fails as the flags say."""

    flags: Flags

    def load_encoder(self) -> FaultyEncoder:
        return FaultyEncoder(self.flags)

    def load_scorer(self, where: Where) -> FaultyScorer:
        if self.flags.take("start_dies"):
            _die()
        if self.flags.take("start_hangs"):
            time.sleep(3600)
        if self.flags.take("start_raises"):
            raise OSError("the disk of the model is gone")
        if self.flags.take("start_refused"):
            raise ModelError("The weights of the model are damaged.")
        return FaultyScorer(self.flags)


def spec_of(job: Job) -> WorkerSpec:
    """What the processes of a run get."""
    return job.spec(Replicas("cpu", 1, 1))


def flags_of(folder: Path) -> Flags:
    return Flags(folder / "flags")


def oracle_job(folder: Path, **tables: dict[str, Any]) -> Job:
    """A job from `folder/in` to `folder/out`; faults are armed in `folder/flags`."""
    values: dict[str, Any] = {
        "input": {"path": str(folder / "in")},
        "model": {"name": "builtin:mini", "device": "cpu"},
        "output": {"path": str(folder / "out")},
        "runtime": {"engine": "ray", "unit_pairs": 25, "max_replicas": 1},
        "limits": {"profile": "none"},
    }
    for name, more in tables.items():
        values[name] = values.get(name, {}) | more
    config = JobConfig.of(values)
    backend = FaultyBackend(flags=flags_of(folder), device=config.model.device, dtype=config.model.dtype)
    plan = plan_input(config.input, unit_pairs=config.runtime.unit_pairs)
    return Job(config, backend, RequestLimits(max_pair_tokens=4096), plan)


def faulty_input(
    folder: Path, marks: dict[tuple[int, int], str] | None = None, *, num_queries: int = 24
) -> list[Group]:
    """Write `folder/in`: queries with candidates, the text of some with marks, by row and index."""
    groups = random_groups(num_queries, max_candidates=9, seed=5)
    for (row, index), mark in (marks or {}).items():
        query_id, query, candidates = groups[row]
        candidates = list(candidates)
        while len(candidates) <= index:
            candidates.append((f"d{row}-{len(candidates)}", f"text {row} {len(candidates)}"))
        candidates[index] = (candidates[index][0], f"{candidates[index][1]} {mark}")
        groups[row] = (query_id, query, candidates)
    write_input(folder, groups)
    return groups


def write_input(folder: Path, groups: list[Group]) -> None:
    write(nested_table(groups), folder / "in" / "a.parquet", row_group_size=3)
