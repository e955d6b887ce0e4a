"""Columns in the names of folders, as Hive, Spark and others write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import NAN, NanScorer, SmallJob
from hypothesis import given
from hypothesis import strategies as st
from tables import nested_table, pairs_table, random_groups, write

from reranker_batch.config import InputConfig
from reranker_batch.errors import FingerprintError, InputError
from reranker_batch.storage.input.partitions import partitions_of
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.output.redriving import redrive_output
from reranker_batch.storage.output.verifying import verify_output

GROUPS = random_groups(12, max_candidates=4, seed=3)


def plan_of(path: Path, layout: str = "nested", unit_pairs: int = 10, **columns: Any) -> InputPlan:
    config = InputConfig.model_validate({"path": str(path), "layout": layout, "columns": columns})
    return plan_input(config, unit_pairs=unit_pairs)


def queries_of(plan: InputPlan) -> list[dict[str, Any]]:
    return [row for unit in plan.units for row in plan.source.read(unit).queries.to_pylist()]


def candidates_of(plan: InputPlan) -> list[dict[str, Any]]:
    return [row for unit in plan.units for row in plan.source.read(unit).candidates.to_pylist()]


def write_days(folder: Path, days: dict[str, int], **options: Any) -> None:
    """So many queries a day."""
    start = 0
    for day, number in days.items():
        write(nested_table(GROUPS[start : start + number]), folder / f"date={day}" / "part-0.parquet", **options)
        start += number


# --- what a path says


@pytest.mark.parametrize(
    ("folder", "file", "expected"),
    [
        ("/in", "a.parquet", {}),
        ("/in", "date=2026-11-20/a=b.parquet", {"date": "2026-11-20"}),
        ("/in", "y=1/m=01/a.parquet", {"y": "1", "m": "01"}),
        ("/in", "plain/date=a%20b%2Fc/more/a.parquet", {"date": "a b/c"}),
        ("/in", "na%3Dme=50%25=+/a.parquet", {"na=me": "50%=+"}),
        ("/in", "x=__HIVE_DEFAULT_PARTITION__/y=/a.parquet", {"x": None, "y": ""}),
        ("/in", "=1/_load=3/ц=天/a.parquet", {"_load": "3", "ц": "天"}),
        ("/env=prod/in/d=1/h=2", "a.parquet", {"d": "1", "h": "2"}),
        ("bucket/d=1", "h=2/d=1/a.parquet", {"d": "1", "h": "2"}),
    ],
)
def test_the_folders_of_a_file_say_its_partitions(folder: str, file: str, expected: dict[str, str | None]) -> None:
    assert partitions_of(folder, file) == expected


@pytest.mark.parametrize(
    ("folder", "file", "message"),
    [
        ("/in", "d=1/d=2/a.parquet", "d=1/d=2/a.parquet lies in two folders that say 'd': '1' and '2'"),
        ("/in/d=1", "d=2/a.parquet", "'d': '1' and '2'"),
        ("/in", "d=%FF/a.parquet", "'%FF' in its name, which is not valid UTF-8"),
    ],
)
def test_folders_that_cannot_be_read_as_columns_are_refused(folder: str, file: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        partitions_of(folder, file)


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=8), max_size=3))
def test_what_arrow_writes_into_names_is_read_back(values: dict[str, str]) -> None:
    folders = [f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in values.items()]
    assert partitions_of("/in", "/".join([*folders, "a.parquet"])) == values


# --- reading


def test_a_partition_is_a_column_like_any_other(tmp_path: Path) -> None:
    write_days(tmp_path, {"2026-11-20": 5, "2026-11-21": 7}, row_group_size=2)
    for mark in ("_SUCCESS", "date=2026-11-20/_SUCCESS", "date=2026-11-20/.part-0.parquet.crc"):
        (tmp_path / mark).write_bytes(b"")
    seen = queries_of(plan_of(tmp_path, passthrough=["date"]))
    assert [row["date"] for row in seen] == ["2026-11-20"] * 5 + ["2026-11-21"] * 7
    assert [row["query_id"] for row in seen] == [group[0] for group in GROUPS]


def test_a_unit_may_span_partitions_and_files_of_no_known_suffix(tmp_path: Path) -> None:
    for at, group in enumerate(GROUPS):
        write(nested_table([group]), tmp_path / f"_load={at:02d}" / "000000_0")
    plan = plan_of(tmp_path, unit_pairs=1_000, passthrough=["_load"])
    assert len(plan.units) == 1
    assert [row["_load"] for row in queries_of(plan)] == [f"{at:02d}" for at in range(len(GROUPS))]


def test_the_null_partition_is_null(tmp_path: Path) -> None:
    write_days(tmp_path, {"__HIVE_DEFAULT_PARTITION__": 2, "2026-11-20": 1})
    assert [row["date"] for row in queries_of(plan_of(tmp_path, passthrough=["date"]))] == ["2026-11-20", None, None]


def test_partitions_that_duckdb_wrote_are_read(tmp_path: Path) -> None:
    rows = nested_table(GROUPS[:4], lang=["e n", "d/e", None, "50%"])
    duckdb.from_arrow(rows).query("rows", f"COPY rows TO '{tmp_path}/t' (FORMAT PARQUET, PARTITION_BY (lang))")
    seen = queries_of(plan_of(tmp_path / "t", passthrough=["lang"]))
    assert {row["query_id"]: row["lang"] for row in seen} == {
        group[0]: lang for group, lang in zip(GROUPS, ["e n", "d/e", None, "50%"], strict=False)
    }


def test_partitions_that_arrow_wrote_are_read(tmp_path: Path) -> None:
    langs = ["e n", "d/e", None, "50%=x"]
    pq.write_to_dataset(nested_table(GROUPS[:4], lang=langs), tmp_path / "t", partition_cols=["lang"])
    seen = queries_of(plan_of(tmp_path / "t", passthrough=["lang"]))
    assert {row["query_id"]: row["lang"] for row in seen} == {
        group[0]: lang for group, lang in zip(GROUPS, langs, strict=False)
    }


def test_a_folder_may_say_which_query_its_pairs_belong_to(tmp_path: Path) -> None:
    texts = pa.table({"query": ["same"] * 2, "doc_id": ["a", "b"], "text": ["x", "y"]})
    for query_id in ("q 1", "q2", "__HIVE_DEFAULT_PARTITION__"):
        write(texts, tmp_path / f"query_id={query_id}" / "p.parquet")
    plan = plan_of(tmp_path, "pairs")
    assert plan.num_queries == 3
    ids = [row["query_id"] for row in queries_of(plan)]
    assert ids == ["query_id=__HIVE_DEFAULT_PARTITION__/p.parquet#0", "q 1", "q2"]
    assert plan.source.read_queries(plan.units[0]).to_pylist() == ["same"]


def test_the_text_of_a_query_may_stand_in_the_name_of_its_folder(tmp_path: Path) -> None:
    texts = pa.table({"doc_id": ["a", "b"], "text": ["x", "y"]})
    for query in ("how%20to", "why"):
        write(texts, tmp_path / f"query={query}" / "p.parquet")
    plan = plan_of(tmp_path, "pairs", unit_pairs=100)
    assert [row["query"] for row in queries_of(plan)] == ["how to", "why"]
    assert plan.source.read_queries(plan.units[0]).to_pylist() == ["how to", "why"]


def test_a_query_that_two_folders_have_is_refused(tmp_path: Path) -> None:
    texts = pa.table({"query": ["same"], "doc_id": ["a"], "text": ["x"]})
    for part in ("a", "b"):
        write(texts, tmp_path / f"part={part}" / "query_id=q1" / "p.parquet")
    with pytest.raises(InputError, match="The query id 'q1' of row 0 in part=a/query_id=q1/p.parquet comes back"):
        plan_of(tmp_path, "pairs")


def test_passthrough_of_pairs_may_be_a_partition(tmp_path: Path) -> None:
    write(pairs_table(GROUPS[:3]), tmp_path / "lang=de" / "p.parquet")
    assert {row["lang"] for row in candidates_of(plan_of(tmp_path, "pairs", passthrough=["lang"]))} == {"de"}


# --- what both the file and its folder say


def test_what_a_file_says_itself_wins_with_its_type(tmp_path: Path) -> None:
    write(nested_table(GROUPS[:2], day=[7, 7]), tmp_path / "day=07" / "a.parquet")
    assert [row["day"] for row in queries_of(plan_of(tmp_path, passthrough=["day"]))] == [7, 7]


@pytest.mark.parametrize(
    ("folder", "values"), [("day=07", [7, 8]), ("day=a", ["a", "b"]), ("day=__HIVE_DEFAULT_PARTITION__", ["a", "a"])]
)
def test_a_file_that_says_another_value_is_refused_if_the_column_is_asked_for(
    tmp_path: Path, folder: str, values: list[Any]
) -> None:
    write(nested_table(GROUPS[:2], day=values), tmp_path / folder / "a.parquet")
    with pytest.raises(InputError, match=rf"Column 'day' of {folder}/a.parquet has the value .* Rename one of them"):
        plan_of(tmp_path, passthrough=["day"])
    assert len(queries_of(plan_of(tmp_path))) == 2


def test_a_field_of_the_candidates_wins_over_a_folder(tmp_path: Path) -> None:
    struct = pa.struct([("doc_id", pa.string()), ("text", pa.string()), ("lang", pa.string())])
    rows = pa.array([[{"doc_id": "d", "text": "t", "lang": "fr"}]], pa.list_(struct))
    table = pa.table({"query_id": ["q"], "query": ["?"], "candidates": rows})
    write(table, tmp_path / "lang=de" / "candidates=3" / "a.parquet")
    assert candidates_of(plan_of(tmp_path, passthrough=["lang"]))[0]["lang"] == "fr"


@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_a_file_without_the_column_that_is_asked_for_is_named(tmp_path: Path, layout: str) -> None:
    table = nested_table(GROUPS[:1]) if layout == "nested" else pairs_table(GROUPS[:1])
    write(table, tmp_path / "date=1" / "a.parquet")
    write(table, tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"'date' is missing in b.parquet"):
        plan_of(tmp_path, layout, passthrough=["date"])


def test_a_column_in_one_file_and_a_folder_of_another_has_one_type_or_is_refused(tmp_path: Path) -> None:
    write(nested_table(GROUPS[:1], day=["8"]), tmp_path / "a.parquet")
    write(nested_table(GROUPS[1:2]), tmp_path / "day=9" / "a.parquet")
    assert [row["day"] for row in queries_of(plan_of(tmp_path, passthrough=["day"]))] == ["8", "9"]
    write(nested_table(GROUPS[:1], day=[8]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="'day' is int64 in a.parquet but large_string in day=9/a.parquet"):
        plan_of(tmp_path, passthrough=["day"])


# --- whole jobs


def test_a_partition_comes_out_in_the_output_and_goes_round_with_dead_letters(tmp_path: Path) -> None:
    groups = [(q, text, [(d, f"{t} {NAN}") for d, t in c]) for q, text, c in random_groups(4, seed=5)]
    for at, group in enumerate(groups):
        write(nested_table([group]), tmp_path / "in" / f"date=d%20{at % 2}" / f"{at}.parquet")
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), columns={"passthrough": ["date"]})
    assert job.run(NanScorer()).totals.scored == 0
    again = tmp_path / "x" / "date=other" / "again"
    redriven = redrive_output(job.output, str(again))
    second = SmallJob(str(again), str(tmp_path / "second"), columns={"passthrough": ["date"]}, top_n=None)
    assert second.run().totals.scored == redriven.num_candidates > 0
    assert verify_output(second.output).problems == []
    rows = pl.read_parquet(tmp_path / "second" / "scores" / "part-*.parquet")
    expected = {group[0]: f"d {at % 2}" for at, group in enumerate(groups)}
    assert dict(rows.select("query_id", "date").unique().iter_rows()) == {
        query_id: date for query_id, date in expected.items() if query_id in set(rows["query_id"])
    }


def test_a_run_that_is_resumed_from_another_partition_is_refused(tmp_path: Path) -> None:
    write_days(tmp_path / "t", {"1": 3})
    asked = {"columns": {"passthrough": ["date"]}}
    SmallJob(str(tmp_path / "t" / "date=1"), str(tmp_path / "out"), **asked).run()  # type: ignore[arg-type]
    (tmp_path / "t" / "date=1").rename(tmp_path / "t" / "date=2")
    with pytest.raises(FingerprintError, match=r'input.partitions.date: "1" -> "2"'):
        SmallJob(str(tmp_path / "t" / "date=2"), str(tmp_path / "out"), **asked).run()  # type: ignore[arg-type]
    SmallJob(str(tmp_path / "t" / "date=2"), str(tmp_path / "plain")).run()
    (tmp_path / "t" / "date=2").rename(tmp_path / "t" / "date=1")
    SmallJob(str(tmp_path / "t" / "date=1"), str(tmp_path / "plain")).run()
