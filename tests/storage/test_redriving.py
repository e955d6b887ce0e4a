"""Dead letters go round again and their results take their old places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import NAN, NanScorer, SmallJob
from outputs import finished
from tables import Group, nested_table, pairs_table, random_groups, write

from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.output.redriving import PLACES, redrive_output
from reranker_batch.storage.output.verifying import verify_output

USAGE = Path(__file__).parents[2] / "docs" / "usage.md"
TOP_N = 3


def groups_with_faults() -> list[Group]:
    """Of some queries the first, all or no candidates have no score at first."""
    groups = random_groups(14, max_candidates=6, seed=8)
    return [
        (
            query_id,
            query,
            [(d, f"{text} {NAN}" if at % 4 == 1 or (at % 4 == 2 and i < 2) else text) for i, (d, text) in enumerate(c)],
        )
        for at, (query_id, query, c) in enumerate(groups)
    ]


def table_of(groups: list[Group], layout: str) -> pa.Table:
    if layout == "pairs":
        return pairs_table(groups)
    if layout == "nested":
        return nested_table(groups)
    lists = {
        "query": [group[1] for group in groups],
        "candidates": [[text for _, text in group[2]] for group in groups],
    }
    if layout == "parallel lists":
        lists |= {"query_id": [group[0] for group in groups], "doc_id": [[d for d, _ in group[2]] for group in groups]}
    return pa.table(lists)


def merged_as_documented(folder: Path) -> pl.DataFrame:
    """Runs the very lines of docs/usage.md."""
    block = re.search(r"```python\n(import polars as pl\n[^`]*?_places[^`]*)```", USAGE.read_text(encoding="utf-8"))
    assert block is not None
    code = block[1]
    for name in ("out/night-again", "out/night", "redriven"):
        code = code.replace(f'"{name}/', f'"{folder}/{name}/')
    values: dict[str, Any] = {"top_n": TOP_N}
    exec(code, values)
    merged: pl.DataFrame = values["merged"]
    return merged


@pytest.mark.parametrize("layout", ["nested", "pairs", "parallel lists", "texts without ids"])
def test_two_runs_merged_as_documented_give_what_an_undisturbed_run_gives(tmp_path: Path, layout: str) -> None:
    input_layout = "pairs" if layout == "pairs" else "nested"
    write(table_of(groups_with_faults(), layout), tmp_path / "in" / "a.parquet", row_group_size=4)
    job = SmallJob(str(tmp_path / "in"), f"{tmp_path}/out/night", layout=input_layout)
    job.run(NanScorer())
    redriven = redrive_output(job.output, f"{tmp_path}/redriven")
    assert redriven.reasons == {"non_finite_score": redriven.num_candidates}
    assert redriven.has_unique_places
    SmallJob(f"{tmp_path}/redriven", f"{tmp_path}/out/night-again", layout=input_layout).run()
    SmallJob(job.input, f"{tmp_path}/undisturbed", layout=input_layout).run()
    expected = pl.read_parquet(f"{tmp_path}/undisturbed/scores/*.parquet").sort("query_id", "rank")
    assert len(expected) > len(pl.read_parquet(f"{job.output}/scores/*.parquet"))
    assert merged_as_documented(tmp_path).sort("query_id", "rank").equals(expected)


def test_a_row_with_unequal_lists_comes_back_whole(tmp_path: Path) -> None:
    table = pa.table({"query": ["p", "q"], "candidates": [["a"], ["b", "c", "d"]], "doc_id": [["1"], ["2"]]})
    write(table, tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run()
    redriven = redrive_output(str(tmp_path / "out"), str(tmp_path / "again"))
    assert redriven.reasons == {"unequal_lists": 3}
    [file] = [path for path in (tmp_path / "again").iterdir() if path.name != PLACES]
    assert pq.read_table(file).to_pylist() == [{"query": "q", "candidates": ["b", "c", "d"], "doc_id": ["2"]}]
    places = pq.read_table(tmp_path / "again" / PLACES).to_pylist()
    assert [place["was"]["index"] for place in places] == [0, 1, 2]
    assert {place["file"] for place in places} == {"in.parquet"}


def test_what_cannot_be_redriven_is_refused_or_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        redrive_output(str(tmp_path / "absent"), str(tmp_path / "again"))
    write(nested_table(random_groups(3)), tmp_path / "in.parquet")
    job = SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out"))
    job.run()
    assert redrive_output(job.output, str(tmp_path / "again")).num_candidates == 0
    assert not (tmp_path / "again").exists()
    with pytest.raises(ConfigError, match="is not empty"):
        redrive_output(job.output, str(tmp_path / "out"))
    (tmp_path / "out" / "scores" / "_SUCCESS").unlink()
    with pytest.raises(ConfigError, match="has not finished"):
        redrive_output(job.output, str(tmp_path / "again"))


def test_repeated_query_ids_are_noticed(tmp_path: Path) -> None:
    groups: list[Group] = [("q", "one", [("a", NAN)]), ("q", "two", [("b", NAN)])]
    write(nested_table(groups), tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run(NanScorer())
    assert not redrive_output(str(tmp_path / "out"), str(tmp_path / "again")).has_unique_places


def test_an_output_that_verify_refuses_is_not_redriven(tmp_path: Path) -> None:
    """Dead letters that are gone would be left out without a word."""
    output = finished(tmp_path)
    output.parts("dead_letters")[0].unlink()
    with pytest.raises(CommitError, match=r"not what its record says, .*dead_letters/part-.* is missing"):
        redrive_output(str(output.path), str(tmp_path / "again"))
    assert not (tmp_path / "again").exists()


def test_a_gated_output_is_redriven(tmp_path: Path) -> None:
    output = finished(tmp_path, gated=True)
    dead_letters = verify_output(str(output.path)).dead_letters
    assert redrive_output(str(output.path), str(tmp_path / "again")).num_candidates == dead_letters > 0


def test_targets_that_cannot_be_a_new_input_are_refused(tmp_path: Path) -> None:
    write(nested_table(groups_with_faults()), tmp_path / "in" / "a.parquet")
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"))
    job.run(NanScorer())
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(job.output)
    for target, message in {
        "file": "is not empty",
        "file/below": "cannot be used",
        "in/again": "lies in the input",
        "out/again": "lies in the output",
        "out/scores/again": "lies in the output",
        "link/again": "lies in the output",
        "out": "is not empty",
    }.items():
        with pytest.raises(ConfigError, match=message):
            redrive_output(job.output, str(tmp_path / target))
    assert (tmp_path / "file").read_text() == "mine"
    assert verify_output(job.output).is_sound


def test_a_row_without_a_list_of_ids_is_scored_the_second_time(tmp_path: Path) -> None:
    """An empty list in the place of none would be of another length than the texts."""
    table = pa.table({"query": ["p", "q"], "candidates": [["a"], [f"b {NAN}", f"c {NAN}"]], "doc_id": [["1"], None]})
    write(table, tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run(NanScorer())
    assert redrive_output(str(tmp_path / "out"), str(tmp_path / "again")).num_candidates == 2
    report = SmallJob(str(tmp_path / "again"), str(tmp_path / "out-again")).run()
    assert (report.totals.scored, report.totals.dead_letters) == (2, {})


def test_no_id_of_another_row_is_passed_on(tmp_path: Path) -> None:
    rows = {"query": [None, "q"], "candidates": [["a", "b"], ["d"]], "doc_id": [["x"], ["other"]]}
    write(pa.table(rows), tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run()
    redrive_output(str(tmp_path / "out"), str(tmp_path / "again"))
    [file] = [path for path in (tmp_path / "again").iterdir() if path.name != PLACES]
    assert pq.read_table(file).to_pylist() == [{"query": None, "candidates": ["a", "b"], "doc_id": ["x"]}]
