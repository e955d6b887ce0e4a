"""Input that is odd but right goes through whole: each candidate comes out once, under its own ids."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import SmallJob, kept_rows, right_rows, run_in_a_process
from oracle import ByteEncoder, HashScorer
from tables import Group, nested_table, pairs_table, random_groups, write

from reranker_batch.config import InputConfig
from reranker_batch.core.limits import RequestLimits
from reranker_batch.pipeline import prepare_unit, score_unit
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.output.crash_points import EXIT_CODE

IDS = [
    "../../x",
    "/etc/passwd",
    "a/b",
    "..",
    ".",
    "a\nb",
    "a\tb c",
    "007",
    "1e5",
    "null",
    "NaN",
    "\x00",
    "%2e%2e",
    "=",
    "'",
]


def run_on(tmp_path: Path, table: pa.Table, layout: str = "nested") -> Path:
    write(table, tmp_path / "in" / "a.parquet", row_group_size=4)
    SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), layout=layout, top_n=None).run()
    return tmp_path / "out"


@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_ids_are_kept_as_they_are_and_lead_nowhere(tmp_path: Path, layout: str) -> None:
    groups: list[Group] = [(name, f"query {at}", [(name, f"text {at}")]) for at, name in enumerate(IDS)]
    output = run_on(tmp_path, pairs_table(groups) if layout == "pairs" else nested_table(groups), layout)
    assert kept_rows(output) == right_rows(groups, top_n=None)
    inside = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert inside == {"in", "out"}
    assert all(path.name.startswith("part-0") or path.name == "_SUCCESS" for path in (output / "scores").iterdir())


def test_ids_and_pairs_that_repeat_are_all_kept_also_after_a_crash(tmp_path: Path) -> None:
    groups: list[Group] = [
        ("same", f"query {at // 2}", [("d", "text"), ("d", "text"), ("d", "other")]) for at in range(9)
    ]
    for name in ("a", "b"):
        write(nested_table(groups), tmp_path / "in" / f"{name}.parquet", row_group_size=2)
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), unit_pairs=6, top_n=2)
    assert run_in_a_process(job, "part_published:3") == EXIT_CODE
    assert run_in_a_process(job) == 0
    assert kept_rows(tmp_path / "out") == right_rows([*groups, *groups], top_n=2)


def test_an_input_without_rows_gives_an_output_with_columns(tmp_path: Path) -> None:
    table = pl.read_parquet(run_on(tmp_path, nested_table([])) / "scores" / "*.parquet")
    assert len(table) == 0
    assert {"query_id", "doc_id", "rank", "relevance_score"} <= set(table.columns)


def test_rows_in_row_groups_of_one_in_folders_of_hive(tmp_path: Path) -> None:
    groups = random_groups(12, max_candidates=5)
    for at, name in enumerate(["lang=de/day=1/a b.parquet", "lang=de/day=2/%41.parquet", "lang=日本/[x].parquet"]):
        write(nested_table(groups[at * 4 : at * 4 + 4]), tmp_path / "in" / name, row_group_size=1)
    SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), top_n=None).run()
    assert kept_rows(tmp_path / "out") == right_rows(groups, top_n=None)


def test_a_document_of_five_megabytes_is_cut_and_scored(tmp_path: Path) -> None:
    groups: list[Group] = [("q", "query", [("long", "x" * 5_000_000), ("short", "y")])]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    config = InputConfig(path=str(path))
    plan = plan_input(config, unit_pairs="auto")
    rows = plan.source.read(plan.units[0])
    limits = RequestLimits(max_item_tokens=400, max_pair_tokens=2000)
    prepared = prepare_unit(plan.units[0], rows, ByteEncoder(), limits, keep_documents=False)
    assert prepared.candidates["truncated"].to_pylist() == [True, False]
    assert len(score_unit(prepared, HashScorer()).logits) == 2


def test_pages_are_checked_where_the_writer_left_checksums(tmp_path: Path) -> None:
    """Without checksums a flipped bit of a text cannot be told from another text, by any reader."""
    found: dict[bool, bool | str] = {}
    for has_checksums in (True, False):
        path = tmp_path / f"{has_checksums}.parquet"
        table = nested_table([("q", "query", [("d", "needle" * 50)])])
        pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=has_checksums)
        path.write_bytes(path.read_bytes().replace(b"needleneedle", b"needlenoodle"))
        config = InputConfig(path=str(path))
        plan = plan_input(config, unit_pairs="auto")
        try:
            rows = plan.source.read(plan.units[0])
            found[has_checksums] = "noodle" in rows.candidates["document"][0].as_py()
        except Exception as error:
            found[has_checksums] = f"{type(error).__name__}: {error}"
    assert found[False] is True
    assert "True.parquet cannot be read" in str(found[True])
    assert "CRC" in str(found[True])
