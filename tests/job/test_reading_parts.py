"""Published parts are read by the engine where one is needed, and a damaged one is noticed whoever reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from engine import SmallJob
from oracle import HashScorer
from tables import nested_table, random_groups, write

from reranker_batch import RunReport
from reranker_batch.config import JobConfig
from reranker_batch.core.backend import Device
from reranker_batch.core.mapping import Item, Result
from reranker_batch.errors import ConfigError
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import SerialEngine, open_inline
from reranker_batch.storage.output.verifying import verify_output


class CountingEngine(SerialEngine):
    """Tells `read` what it is given to read: parts that are there, and the names of those that are compared."""

    read: list[object]

    def map(self, call: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        self.read += items
        return super().map(call, items)


class Engines:
    """Opens engines in this process."""

    def __init__(self) -> None:
        self.opened = 0
        self.read: list[object] = []

    @contextmanager
    def __call__(self, config: JobConfig, devices: Sequence[Device]) -> Iterator[CountingEngine]:
        self.opened += 1
        engine = CountingEngine(config, devices, open_inline)
        engine.read = self.read
        yield engine


@pytest.fixture
def job(tmp_path: Path) -> SmallJob:
    """Finished, of several parts."""
    write(nested_table(random_groups(12, seed=5)), tmp_path / "in" / "a.parquet", row_group_size=2)
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), unit_pairs=6)
    assert job.run().units >= 4
    return job


def run(job: SmallJob) -> tuple[RunReport, Engines]:
    engines = Engines()
    return run_job(job.job(HashScorer()), engines), engines


def parts(job: SmallJob) -> list[Path]:
    return sorted(Path(job.output, "scores").glob("part-*"))


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)


def test_a_finished_output_of_a_few_parts_needs_no_engine(job: SmallJob) -> None:
    report, engines = run(job)
    assert (report.units_skipped, engines.opened) == (report.units, 0)


@pytest.mark.parametrize("has_report", [True, False], ids=["after a report", "after a kill"])
def test_the_engine_that_computes_what_is_missing_reads_what_is_there(job: SmallJob, has_report: bool) -> None:
    missing, damaged, *others = parts(job)
    missing.unlink()
    damage(damaged)
    if not has_report:
        Path(job.output, "run", "report.json").unlink()
    report, engines = run(job)
    compared = [] if has_report else [str(path) for path in parts(job)]
    assert (engines.opened, engines.read[len(others) + 1 :]) == (1, compared)
    assert (report.units_skipped, report.status) == (len(others), "complete")
    assert verify_output(job.output).is_sound


def test_an_engine_that_cannot_be_opened_leaves_the_report_of_the_earlier_attempt(job: SmallJob) -> None:
    parts(job)[0].unlink()
    Path(job.output, "scores", "_SUCCESS").unlink()
    report = Path(job.output, "run", "report.json")
    before = report.read_bytes()

    def refuse(config: JobConfig, devices: Sequence[Device]) -> NoReturn:
        raise ConfigError("no such cluster")

    with pytest.raises(ConfigError, match="no such cluster"):
        run_job(job.job(HashScorer()), refuse)
    assert report.read_bytes() == before
    assert run(job)[0].units_skipped == len(parts(job)) - 1


def test_a_damaged_part_is_noticed_where_no_part_is_missing(job: SmallJob) -> None:
    damage(parts(job)[2])
    report, engines = run(job)
    assert (engines.opened, engines.read) == (1, [])
    assert report.units_skipped == report.units - 1
    assert verify_output(job.output).is_sound


def test_verify_reads_parts_wherever_it_is_told_to(job: SmallJob) -> None:
    engines = Engines()
    damage(parts(job)[1])
    with engines(job.job(HashScorer()).config, ["cpu"]) as engine:
        verification = verify_output(job.output, each=engine.map)
    assert len(engines.read) == len(parts(job))
    assert any(parts(job)[1].name in problem for problem in verification.problems)
    assert verification == verify_output(job.output)
