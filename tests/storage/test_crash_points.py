"""A process may end at any place: the next run gives what an undisturbed run would have given."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from engine import NAN, NanScorer, SmallJob, kept_rows, num_nulls, right_rows, run_in_a_process, table_with_nulls
from fuzzing import fuzzed_by
from hypothesis import given
from hypothesis import strategies as st
from tables import nested_table, random_groups, write

from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.crash_points import EXIT_CODE, POINTS
from reranker_batch.storage.output.verifying import verify_output

GROUPS = random_groups(12, max_candidates=6, seed=5)
Files = dict[str, tuple[int, bytes]]


def small_job(folder: Path) -> SmallJob:
    write(table_with_nulls(GROUPS), folder / "in" / "a.parquet", row_group_size=3)
    return SmallJob(str(folder / "in"), str(folder / "out"))


def published(output: Path) -> Files:
    """Time and content of every part and success marker."""
    files = sorted((output / "scores").glob("*")) if output.exists() else []
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def assert_whole(output: Path, before: Files) -> None:
    """The one judge of all crashes; `before` is what was published when the last run began."""
    assert kept_rows(output) == right_rows(GROUPS)
    letters = pl.read_parquet(output / "dead_letters" / "*.parquet")
    assert letters["reason_code"].to_list() == ["null_document"] * num_nulls(GROUPS)
    assert verify_output(str(output)).problems == []
    num_pairs = len({(query, text) for _, query, candidates in GROUPS for _, text in candidates})
    assert len(pl.read_parquet(output / "memo" / "*.parquet").select("q0", "d0").unique()) == num_pairs
    after = published(output)
    assert "_SUCCESS" in after
    assert {name: after[name] for name in before} == before
    names = sorted(path.name for path in (output / "run").iterdir())
    assert names == ["manifest.json", "plan.json", "report.html", "report.json"]


def crash_then_judge(job: SmallJob, crashes: list[str]) -> None:
    output = Path(job.output)
    for crash_at in crashes:
        before = published(output)
        ended = run_in_a_process(job, crash_at)
        assert ended in (0, EXIT_CODE)
        after = published(output)
        assert {name: after[name] for name in before} == before
        if "_SUCCESS" in after:
            assert kept_rows(output) == right_rows(GROUPS)
        else:
            assert ended == EXIT_CODE
    before = published(output)
    assert run_in_a_process(job) == 0
    assert_whole(output, before)


ELSEWHERE = ("gate_", "reuse_", "deletion_", "files_", "labels_", "conversion_", "prepare_")
UNGATED = [point for point in POINTS if not point.startswith(ELSEWHERE)]


@pytest.mark.parametrize("point", UNGATED)
def test_a_run_that_ended_at_any_place_is_finished_by_the_next(tmp_path: Path, point: str) -> None:
    job = small_job(tmp_path)
    assert run_in_a_process(job, f"{point}:1") == EXIT_CODE, "the place was not reached"
    assert ("_SUCCESS" in published(tmp_path / "out")) == (point in ("success_written", "lock_released"))
    crash_then_judge(job, [])


_CRASHES = st.lists(st.builds("{}:{}".format, st.sampled_from(UNGATED), st.integers(1, 4)), min_size=2, max_size=3)


@fuzzed_by(6, 500)
@given(crashes=_CRASHES)
def test_runs_that_end_again_and_again_lose_and_double_nothing(crashes: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        crash_then_judge(small_job(Path(folder)), crashes)


def test_an_unarmed_process_passes_every_place(tmp_path: Path) -> None:
    crash_then_judge(small_job(tmp_path), [""])


def test_dead_letters_of_a_unit_that_has_none_any_more_do_not_stay(tmp_path: Path) -> None:
    """A crash after the dead letters, and a second attempt in which the unit is scored whole."""
    write(nested_table([("q", "query", [("a", "text"), ("b", f"text {NAN}")])]), tmp_path / "in" / "a.parquet")
    job, output = SmallJob(str(tmp_path / "in"), str(tmp_path / "out")), tmp_path / "out"
    assert run_in_a_process(job, "dead_letters_published:1", NanScorer()) == EXIT_CODE
    assert len([*(output / "dead_letters").iterdir()]) == 1
    assert run_in_a_process(job) == 0
    assert [*(output / "dead_letters").iterdir()] == []
    assert len(kept_rows(output)) == 2


@pytest.mark.parametrize("point", ["report_written", "gate_written", "lock_released"])
def test_a_gated_run_that_ended_at_any_place_is_gated_and_served_once_it_is_accepted(
    tmp_path: Path, point: str
) -> None:
    job = replace(small_job(tmp_path), max_failed=0)
    assert run_in_a_process(job, f"{point}:1") == EXIT_CODE, "the place was not reached"
    before = published(tmp_path / "out")
    assert "_SUCCESS" not in before
    report = job.run()
    assert (report.exit_code, report.computed_pairs) == (3, 0)
    assert published(tmp_path / "out") == before
    accept_output(job.output, by="somebody")
    assert published(tmp_path / "out").keys() == {*before, "_SUCCESS"}
    assert kept_rows(tmp_path / "out") == right_rows(GROUPS)
