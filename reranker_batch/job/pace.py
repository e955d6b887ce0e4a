"""How fast a job is expected to be: as the user says, or as an earlier run was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from reranker_batch.config import JobConfig
from reranker_batch.core.report import RunReport
from reranker_batch.errors import ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import check_access
from reranker_batch.storage.output.run_state import RunState

_SLOWEST = 0.001


@dataclass(frozen=True)
class Pace:
    """Pairs a second of all replicas together, and where the number is from."""

    pairs_per_s: float
    source: str

    def seconds(self, pairs: int) -> float:
        return pairs / self.pairs_per_s

    def shown(self, pairs: int) -> str:
        pace = f"{self.pairs_per_s:,.0f}" if self.pairs_per_s >= 10 else f"{self.pairs_per_s:.2g}"
        return f"about {timedelta(seconds=round(self.seconds(pairs)))} at {pace} pairs/s ({self.source})"


def pace_of(config: JobConfig, *, pairs_per_s: float | None = None, like: str | None = None) -> Pace | None:
    """The pace that is given, or that of the run which wrote `like`; None where neither is given.

    Raises:
        ConfigError: Both are given, the pace is no such number, or no run with a pace wrote `like`.
        CommitError: The report of `like` cannot be read.
    """
    if pairs_per_s is not None and like is not None:
        raise ConfigError("Give --pairs-per-second or --like, not both.")
    if pairs_per_s is not None:
        if not _SLOWEST <= pairs_per_s < float("inf"):
            raise ConfigError(f"--pairs-per-second {pairs_per_s:g}: give a number, {_SLOWEST} or more.")
        return Pace(pairs_per_s, "as given")
    return None if like is None else _pace_like(config, like)


def _pace_like(config: JobConfig, output: str) -> Pace:
    check_access(output)
    report = RunState(Folder.at(output)).report()
    if report is None:
        raise ConfigError(f"--like {output}: there is no run/report.json. Give the output of an earlier run.")
    if not report.computed_pairs or report.wall_s <= 0:
        raise ConfigError(f"--like {output}: its last run scored no pairs, so it has no pace. Give another output.")
    before = max(report.replicas, 1)
    replicas = _replicas(config, report, before)
    scaled = "" if replicas == before else f", scaled to {replicas}"
    source = f"as {output}: replicas {before}{scaled}, start-up included"
    return Pace(report.computed_pairs / report.wall_s / before * replicas, source)


def _replicas(config: JobConfig, report: RunReport, before: int) -> int:
    """What is asked for on GPUs, else as many as before: on CPUs replicas share the same cores."""
    runtime = config.runtime
    is_on_gpus = bool(report.executions) and all(" on cuda" in execution for execution in report.executions)
    if not is_on_gpus:
        return before
    if runtime.engine == "local":
        return 1
    return before if runtime.max_replicas == "auto" else runtime.max_replicas
