"""Teachers' outputs and the input are joined by place; what does not fit is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import NAN, NanScorer, table_with_nulls
from oracle import HashScorer, answers
from tables import Group, nested_table, pairs_table, random_groups, write
from teachers import Bench, ChosenScorer, chosen, made, make_in_a_process

from reranker_batch.config import InputConfig
from reranker_batch.errors import CommitError, ConfigError, FingerprintError
from reranker_batch.storage.output.crash_points import EXIT_CODE

KEEP_ALL = {"scale": "none", "false_negatives": "keep", "negatives": {"num": 99, "min_num": 0}}


class Shifted(HashScorer):
    """A second teacher: the oracle's logits and one."""

    def _one(self, *arguments: Any) -> np.float32:
        return np.float32(super()._one(*arguments) + np.float32(1))


def repeated_ids(groups: list[Group]) -> list[Group]:
    """Every query has one id, and every document."""
    return [("q", query, [("d", text) for _, text in candidates]) for _, query, candidates in groups]


@pytest.mark.parametrize("layout", ["nested", "pairs"])
@pytest.mark.parametrize("unit_pairs", [3, 16_384])
def test_candidates_meet_their_own_logits_whatever_the_units_are(tmp_path: Path, layout: str, unit_pairs: int) -> None:
    """Ids that all repeat, units of several files, teachers whose units have other bounds."""
    groups = [group for group in random_groups(25, seed=2) if group[2]]
    files = groups[:1], groups[1:2], groups[2:]
    bench = Bench(tmp_path, layout=layout, settings={"unit_pairs": unit_pairs})
    bench.write_input(*(files if layout == "pairs" else map(repeated_ids, files)))
    bench.teach("one", HashScorer(), unit_pairs=9)
    bench.teach("two", Shifted(), unit_pairs=40)
    report = bench.label(["one", "two"], **KEEP_ALL)
    found = {
        (row["file"], row["row"], item["index"]): (item["text"], item["logits"]["one"], item["logits"]["two"])
        for row in bench.rows()
        for item in [*row["positives"], *row["negatives"]]
    }
    expected = {}
    for name, of_file in enumerate(files):
        row = 0
        for at, group in enumerate(of_file):
            for answer in answers(*group):
                text = group[2][answer.index][1]
                logits = answer.logit, np.float32(answer.logit + np.float32(1))
                expected[f"{name}.parquet", row if layout == "pairs" else at, answer.index] = (text, *logits)
            row += len(group[2])
    assert len(found) + report.dropped.get("repeated", 0) + report.dropped.get("same_text", 0) == len(expected)
    assert found.items() <= expected.items()


def test_dead_letters_fill_their_gaps(tmp_path: Path) -> None:
    """Of the input for all teachers, of one teacher alone, and a row without any texts."""
    groups = [
        (query_id, query, [(doc_id, f"{text} {doc_id}") for doc_id, text in candidates])
        for query_id, query, candidates in random_groups(12, seed=4)
    ]
    bad = [
        (query_id, query, [(d, f"{text} {NAN}" if d.endswith("-1") else text) for d, text in candidates])
        for query_id, query, candidates in groups
    ]
    table = table_with_nulls(bad)
    queries = table["query"].to_pylist()
    table = table.set_column(1, "query", pa.array([None if at == 5 else query for at, query in enumerate(queries)]))
    write(table, tmp_path / "in" / "0.parquet", row_group_size=3)
    bench = Bench(tmp_path)
    bench.teach("one", HashScorer(), unit_pairs=5)
    bench.teach("two", NanScorer(), unit_pairs=30)
    report = bench.label(["one", "two"], **KEEP_ALL)
    lost = {(row["row"], row["index"]) for row in bench.dropped() if row["reason"] == "dead_letter"}
    expected = {
        (row, index)
        for row, candidates in enumerate(table["candidates"].to_pylist())
        for index, candidate in enumerate(candidates)
        if row == 5 or candidate["text"] is None or NAN in candidate["text"]
    }
    assert lost == expected
    assert report.dropped["dead_letter"] == len(expected)
    assert report.candidates == sum(map(len, table["candidates"].to_pylist()))
    assert all(row["score"] is None for row in bench.dropped() if row["reason"] == "dead_letter")


@pytest.mark.parametrize("reordered", ["queries", "documents"])
def test_rows_in_another_order_are_refused(tmp_path: Path, reordered: str) -> None:
    """Such a file has the same size and the same footer."""
    groups = [chosen(f"q{at}", (f"a{at}", 1.0), (f"b{at}", 2.0)) for at in range(3)]
    other = groups[::-1] if reordered == "queries" else [(name, text, found[::-1]) for name, text, found in groups]
    path = tmp_path / "in" / "0.parquet"
    path.parent.mkdir()
    bench = Bench(tmp_path)
    for name, rows in (("one", groups), ("two", other)):
        pq.write_table(nested_table(rows), path, compression="none")
        bench.teach(name, ChosenScorer(0))
    seen = "'q0', the input 'q2'" if reordered == "queries" else "'b0', the input 'a0'"
    with pytest.raises(CommitError, match=f"Teacher one: .*at row 0 of 0.parquet it has the id {seen}"):
        bench.label(["one", "two"])
    pq.write_table(nested_table(groups), path, compression="none")
    with pytest.raises(CommitError, match="Teacher two: "):
        bench.label(["one", "two"])


def two_teachers(folder: Path) -> Bench:
    bench = Bench(folder)
    bench.write_input(random_groups(6, seed=1), random_groups(5, seed=2))
    for name in ("one", "two"):
        bench.teach(name, HashScorer())
    return bench


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_n": 3}, r"Teacher two: its output was trimmed to ranking.top_n=3"),
        ({"output_layout": "pairs"}, r"Teacher two: its output has output.layout: pairs"),
        ({"max_failed": 0, "scorer": NanScorer()}, r"Teacher two: .* is not finished"),
        ({"input": "other"}, r"Teachers one and two have scored two inputs: 0.parquet differs; 1.parquet is in one"),
    ],
)
def test_a_teacher_that_cannot_be_joined_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    bench = Bench(tmp_path)
    bench.write_input([("q", "query", [("a", "text"), ("b", f"text {NAN}")])], random_groups(2))
    write(nested_table(random_groups(3, seed=8)), tmp_path / "other" / "0.parquet")
    bench.teach("one", HashScorer())
    given = {
        name: str(tmp_path / value) if name == "input" else value for name, value in changes.items() if name != "scorer"
    }
    bench.teach("two", changes.get("scorer", HashScorer()), **given)
    with pytest.raises(ConfigError, match=message):
        bench.label(["one", "two"])
    assert not (tmp_path / "labels").exists()


def test_a_teacher_without_a_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Teacher one: .* holds no run"):
        Bench(tmp_path).label(["one"])


def test_teachers_of_other_columns_are_refused(tmp_path: Path) -> None:
    bench = two_teachers(tmp_path)
    write(pairs_table(random_groups(6, seed=1)), tmp_path / "pairs" / "0.parquet")
    bench.teach("three", HashScorer(), layout="pairs", input=str(tmp_path / "pairs"))
    with pytest.raises(ConfigError, match="Teachers one and three .* input.layout is nested and pairs"):
        bench.label(["one", "three"])


@pytest.mark.parametrize("columns", [{"document": "title"}, {"query": "hint"}])
def test_other_columns_of_the_input_than_those_that_were_scored_are_refused(
    tmp_path: Path, columns: dict[str, str]
) -> None:
    """Scores would stand with texts that no teacher has seen."""
    table = nested_table([("q", "query", [("a", "text")])], hint=["another query"])
    candidates = pa.array([[{"doc_id": "a", "text": "text", "title": "another text"}]])
    bench = Bench(tmp_path, settings={})
    write(table.set_column(2, "candidates", candidates), tmp_path / "in" / "0.parquet")
    bench.teach("one", HashScorer())
    config = bench.config(["one"])
    given = InputConfig.model_validate({"path": str(tmp_path / "in"), "columns": columns})
    (name,) = columns
    with pytest.raises(ConfigError, match=f"Teacher one has read the input in another way .* input.columns.{name} is "):
        made(config.model_copy(update={"input": given}))


def test_an_input_that_was_written_again_is_the_same_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    bench = two_teachers(tmp_path)
    os.utime(tmp_path / "in" / "1.parquet", (1, 1))
    bench.teach("three", HashScorer())
    assert bench.label(["one", "three"]).candidates
    bench.write_input(random_groups(6, seed=1), random_groups(5, seed=3))
    with pytest.raises(ConfigError, match="Teacher one has not scored .* as it is now: 1.parquet differs"):
        bench.label(["one", "two"])


def without_last_candidate(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    row = next(row for row in rows if row["results"])
    row["results"].pop()
    return pa.Table.from_pylist(rows, table.schema)


def with_a_candidate_twice(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    row = next(row for row in rows if row["results"])
    row["results"].append(row["results"][0])
    return pa.Table.from_pylist(rows, table.schema)


def with_another_index(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    next(row for row in rows if row["results"])["results"][0]["index"] = 99
    return pa.Table.from_pylist(rows, table.schema)


@pytest.mark.parametrize(
    "change",
    [
        without_last_candidate,
        with_a_candidate_twice,
        with_another_index,
        lambda table: table.slice(1),
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    ],
)
def test_an_output_that_does_not_fit_the_input_is_an_error(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    bench = two_teachers(tmp_path)
    path = sorted((tmp_path / "two" / "scores").glob("part-*"))[0]
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(CommitError, match=r"Teacher two: .* at row \d+ of 0.parquet is not there exactly once in both"):
        bench.label(["one", "two"])


def test_a_column_of_places_that_is_missing_is_told(tmp_path: Path) -> None:
    bench = two_teachers(tmp_path)
    path = sorted((tmp_path / "two" / "scores").glob("part-*"))[0]
    pq.write_table(pq.read_table(path).drop_columns("file"), path)
    with pytest.raises(CommitError, match="has no column file. Run its job again"):
        bench.label(["one", "two"])


def test_equal_settings_give_equal_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write_input(random_groups(20, seed=9))
    bench.teach("one", HashScorer())
    made = []
    for seed in (3, 3, 4):
        bench.label(["one"], negatives={"num": 2, "sampling": "random", "seed": seed})
        made.append(bench.parts())
        shutil.rmtree(tmp_path / "labels")
    assert made[0] == made[1]
    assert made[0] != made[2]


def small(folder: Path) -> Bench:
    bench = Bench(folder, settings={"unit_pairs": 8})
    bench.write_input([group for group in random_groups(12, seed=5) if group[2]])
    bench.teach("one", HashScorer())
    return bench


@pytest.mark.parametrize(
    "crash_at",
    [
        "lock_taken:1",
        "labels_recorded:1",
        "labels_dropped_published:2",
        "labels_published:1",
        "labels_published:3",
        "labels_reported:1",
        "labels_marked:1",
        "lock_released:1",
    ],
)
def test_labels_that_were_killed_are_finished_by_the_next_command(tmp_path: Path, crash_at: str) -> None:
    bench = small(tmp_path)
    bench.label(["one"])
    expected = bench.parts()
    assert len(expected) > 6
    shutil.rmtree(tmp_path / "labels")
    assert make_in_a_process(bench.config(["one"]), crash_at) == EXIT_CODE
    before = {
        name: (tmp_path / "labels" / name).stat().st_mtime_ns for name in bench.parts() if name.startswith("labels/")
    }
    report = bench.label(["one"])
    assert bench.parts() == expected
    assert report.parts_made == report.parts - len(before)
    assert {name: (tmp_path / "labels" / name).stat().st_mtime_ns for name in before} == before
    names = sorted(path.name for path in (tmp_path / "labels" / "run").iterdir())
    assert names == ["labels.json", "labels_report.json"]
    assert (tmp_path / "labels" / "labels" / "_SUCCESS").exists()


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    bench = small(tmp_path)
    bench.label(["one"])
    expected = bench.parts()
    (tmp_path / "labels" / min(name for name in expected if name.startswith("labels/"))).write_bytes(b"PAR1")
    assert bench.label(["one"]).parts_made == 1
    assert bench.parts() == expected


def test_labels_of_other_settings_or_teachers_are_refused_with_the_difference(tmp_path: Path) -> None:
    bench = small(tmp_path)
    bench.label(["one"])
    with pytest.raises(FingerprintError, match=r"labels.negatives.num: 7 -> 5"):
        bench.label(["one"], negatives={"num": 5})
    bench.teach("other", Shifted(), scoring={"shift": 1})
    with pytest.raises(FingerprintError, match=r"teachers.one.scoring_fingerprint"):
        bench.label([{"name": "one", "output": str(tmp_path / "other")}])
    assert bench.label(["one"]).parts_made == 0


def test_a_folder_with_files_of_others_is_refused(tmp_path: Path) -> None:
    bench = small(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"holds files that `label` has not written, such as 'notes.txt'"):
        bench.label(["one"])
    with pytest.raises(ConfigError, match=r"holds files that `label` has not written, such as"):
        Bench(tmp_path, settings={"path": str(tmp_path / "one")}).label(["one"])


def test_an_input_without_rows_gives_empty_labels(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write_input([])
    bench.teach("one", ChosenScorer(0))
    report = bench.label(["one"])
    assert (report.queries, report.candidates, bench.rows()) == (0, 0, [])
