"""Every run leaves a memo with the score of each of its pairs, and notices when one of its files is not what it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from engine import NAN, NanScorer, SmallJob, kept_rows, right_rows
from oracle import HashScorer
from tables import nested_table, random_groups, write

from reranker_batch import verify_output
from reranker_batch.config import Columns
from reranker_batch.errors import ConfigError
from reranker_batch.storage.input.planning import refuse_own_names

GROUPS = random_groups(9, max_candidates=6, seed=7)


def run(folder: Path, **more: object) -> SmallJob:
    write(nested_table(GROUPS), folder / "in" / "a.parquet", row_group_size=3)
    job = SmallJob(str(folder / "in"), str(folder / "out"), **more)  # type: ignore[arg-type]
    job.run()
    return job


def memos(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "memo").glob("*"))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out" / "scores").glob("part-*")}


def test_the_report_and_the_parts_record_a_memo_of_every_unit(tmp_path: Path) -> None:
    run(tmp_path)
    report = json.loads((tmp_path / "out" / "run" / "report.json").read_text())
    recorded = {part["unit_id"]: part["memo"] for part in report["parts"]}
    assert {f"part-{unit_id}.parquet" for unit_id in recorded} == {path.name for path in memos(tmp_path)}
    rows = pl.read_parquet(tmp_path / "out" / "memo" / "*.parquet")
    assert sum(memo["num_rows"] for memo in recorded.values()) == len(rows)
    scored = {(query, text) for _, query, candidates in GROUPS for _, text in candidates}
    assert len(rows.unique(["q0", "q1", "d0", "d1"])) == len(scored)
    assert rows["nights"].unique().to_list() == [0]


def test_candidates_without_a_score_are_in_no_memo(tmp_path: Path) -> None:
    write(nested_table([("q", "query", [("a", "text"), ("b", f"text {NAN}")])]), tmp_path / "in" / "a.parquet")
    SmallJob(str(tmp_path / "in"), str(tmp_path / "out")).run(NanScorer())
    assert len(pl.read_parquet(tmp_path / "out" / "memo" / "*.parquet")) == 1


@pytest.mark.parametrize("what", ["changed", "deleted", "swapped"])
def test_a_memo_that_is_not_the_published_one_is_noticed_and_its_unit_done_again(tmp_path: Path, what: str) -> None:
    job = run(tmp_path)
    first, second, *_ = memos(tmp_path)
    good = {path.name: path.read_bytes() for path in (first, second)}
    if what == "deleted":
        first.unlink()
    else:
        first.write_bytes(second.read_bytes() if what == "swapped" else first.read_bytes()[:-40] + b"x" * 40)
    problem, *_ = verify_output(job.output).problems
    assert f"memo/{first.name}" in problem
    before = times(tmp_path)
    job.run()
    assert verify_output(job.output).problems == []
    assert {path.name: path.read_bytes() for path in (first, second)} == good
    assert [name for name, time in times(tmp_path).items() if time != before[name]] == [first.name]


def test_a_memo_of_no_unit_is_foreign(tmp_path: Path) -> None:
    job = run(tmp_path)
    (tmp_path / "out" / "memo" / "part-00009-0000000000.parquet").write_bytes(b"")
    assert verify_output(job.output).problems == ["memo/part-00009-0000000000.parquet belongs to no unit of the plan."]


def test_a_run_without_a_memo_gives_the_same_rows(tmp_path: Path) -> None:
    job = run(tmp_path, memo=False)
    assert memos(tmp_path) == []
    assert verify_output(job.output).problems == []
    assert kept_rows(tmp_path / "out") == right_rows(GROUPS)


@pytest.mark.parametrize("memo", [True, False])
def test_an_output_keeps_to_the_memo_that_it_was_begun_with(tmp_path: Path, memo: bool) -> None:
    job = run(tmp_path, memo=memo)
    (tmp_path / "out" / "scores" / "part-00000-0000000000.parquet").unlink()
    replace(job, memo=not memo).run(HashScorer())
    assert len(memos(tmp_path)) == (len(times(tmp_path)) if memo else 0)
    assert verify_output(job.output).problems == []


def test_the_column_of_a_memo_is_no_name_for_a_passthrough_column() -> None:
    with pytest.raises(ConfigError, match="_memo is a name that the job needs itself"):
        refuse_own_names(Columns(passthrough=["_memo"]))
