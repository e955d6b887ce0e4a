"""Nights with reuse on Ray: what changed is scored, no change needs no replica, and a failed check starts anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fault_jobs import faulty_input, oracle_job, write_input
from judge import expected, kept
from nightly import move_logits
from tables import Group

from reranker_batch import RunReport
from reranker_batch.errors import CommitError
from reranker_batch.job.run import run_job
from reranker_batch.runtime.engine import ray_engine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def run(folder: Path, **tables: Any) -> RunReport:
    return run_job(oracle_job(folder, **tables), ray_engine)


def last_night(folder: Path) -> list[Group]:
    """Run a night and move its output away."""
    groups = faulty_input(folder)
    run(folder)
    (folder / "out").rename(folder / "last")
    return groups


def test_nights_on_ray(tmp_path: Path) -> None:
    groups = last_night(tmp_path)
    reuse = {"from": str(tmp_path / "last")}
    shuffled = [groups[at * 7 % len(groups)] for at in range(len(groups))]
    write_input(tmp_path, shuffled)
    report = run(tmp_path, reuse=reuse)
    assert kept(tmp_path) == expected(shuffled, {})
    assert (report.reused_share, report.replicas) == (1.0, 0)
    (tmp_path / "out").rename(tmp_path / "unchanged")
    groups[3] = ("q3", "another query", groups[3][2])
    write_input(tmp_path, groups)
    report = run(tmp_path, reuse={"from": str(tmp_path / "unchanged"), "required": True})
    assert kept(tmp_path) == expected(groups, {})
    assert report.rescored == len(groups[3][2])
    assert report.reuse is not None
    assert report.reuse.check is not None
    assert report.reuse.check.is_within
    assert pl.read_parquet(tmp_path / "out" / "memo" / "*.parquet")["nights"].max() == 2


def test_a_check_that_fails_on_ray_makes_a_full_night(tmp_path: Path) -> None:
    groups = last_night(tmp_path)
    move_logits(tmp_path / "last")
    groups[3] = ("q3", "another query", groups[3][2])
    write_input(tmp_path, groups)
    report = run(tmp_path, reuse={"from": str(tmp_path / "last")})
    assert kept(tmp_path) == expected(groups, {})
    assert (report.totals.reused, report.status) == (0, "complete")
    assert report.reuse is not None
    assert "differ too much: by 1 in a logit" in report.reuse.refused[0]


def test_a_memo_that_was_tampered_with_stops_a_run_on_ray(tmp_path: Path) -> None:
    last_night(tmp_path)
    for path in (tmp_path / "last" / "memo").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CommitError, match="is damaged"):
        run(tmp_path, reuse={"from": str(tmp_path / "last")})
