"""Small files share a unit, and nobody can tell from the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import NAN, NanScorer, SmallJob
from fsspec.implementations.memory import MemoryFileSystem
from tables import Group, nested_table, pairs_table, random_groups, write

from reranker_batch.config import InputConfig
from reranker_batch.core.units import FileIdentity, WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.storage.input.cutting import cut_input
from reranker_batch.storage.input.input_file import InputFile
from reranker_batch.storage.input.planning import InputPlan, plan_input
from reranker_batch.storage.output.redriving import PLACES, redrive_output

LAYOUTS = ["structs", "texts", "parallel lists", "pairs"]
ONE_FILE_A_UNIT, MANY = 1, 10_000


def groups() -> list[Group]:
    """Of some queries the first candidate has no score."""
    return [
        (query_id, query, [(d, f"{text} {NAN}" if at % 4 == 1 and d.endswith("-0") else text) for d, text in documents])
        for at, (query_id, query, documents) in enumerate(random_groups(30, max_candidates=4, seed=5))
    ]


def table_of(groups: Sequence[Group], layout: str) -> pa.Table:
    """Lists of unequal length, null texts and null queries are among them."""
    if layout == "pairs":
        return with_nulls(pairs_table(groups), "text")
    if layout == "structs":
        return with_nulls(nested_table(groups), "query")
    lists: dict[str, Any] = {
        "query_id": [group[0] for group in groups],
        "query": pa.array([group[1] for group in groups], pa.string()),
        "candidates": pa.array([[text for _, text in group[2]] for group in groups], pa.list_(pa.string())),
    }
    if layout == "parallel lists":
        ids = [[d for d, _ in group[2]][: None if at % 5 else 1] for at, group in enumerate(groups)]
        lists["doc_id"] = pa.array(ids, pa.list_(pa.string()))
    return with_nulls(pa.table(lists), "query")


def with_nulls(table: pa.Table, name: str) -> pa.Table:
    values = [None if at % 7 == 3 else value for at, value in enumerate(table[name].to_pylist())]
    return table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))


def write_files(folder: Path, layout: str, size: int) -> None:
    """The queries of `groups`, a few a file; every fifth file is empty."""
    queries = groups()
    pieces = [queries[start : start + size] for start in range(0, len(queries), size)]
    for at, piece in enumerate(pieces):
        write(table_of(piece, layout), folder / f"{at:03d}.parquet", row_group_size=2)
        if at % 5 == 2:
            write(table_of([], layout), folder / f"{at:03d}-empty.parquet")


def job_of(tmp_path: Path, layout: str, name: str, unit_pairs: int) -> SmallJob:
    out = str(tmp_path / name)
    kind = "pairs" if layout == "pairs" else "nested"
    return SmallJob(str(tmp_path / "in"), out, layout=kind, unit_pairs=unit_pairs, output_layout="nested")


def rows_of(output: str, folder: str) -> list[dict[str, Any]]:
    """Of all parts in the order of the units, those of a part in the order of the input."""
    parts = [pl.read_parquet(path) for path in sorted(Path(output, folder).glob("part-*"))]
    if folder == "dead_letters":
        parts = [part.sort("file", "row", "index", maintain_order=True) for part in parts]
    return [row for part in parts for row in part.to_dicts()]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 4])
def test_rows_are_the_same_however_many_files_a_unit_has(tmp_path: Path, layout: str, size: int) -> None:
    """Scores, request ids, and the files and rows of dead letters."""
    write_files(tmp_path / "in", layout, size)
    apart, together = (job_of(tmp_path, layout, str(pairs), pairs) for pairs in (ONE_FILE_A_UNIT, MANY))
    assert apart.run(NanScorer()).units > together.run(NanScorer()).units == 1
    for folder in ("scores", "dead_letters"):
        assert rows_of(apart.output, folder) == rows_of(together.output, folder) != []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dead_letters_of_many_files_lead_to_their_rows_and_can_be_redriven(tmp_path: Path, layout: str) -> None:
    write_files(tmp_path / "in", layout, 1)
    job = job_of(tmp_path, layout, "out", MANY)
    job.run(NanScorer())
    letters = rows_of(job.output, "dead_letters")
    assert len({letter["file"] for letter in letters}) > 3
    for letter in letters:
        [row] = pl.read_parquet(tmp_path / "in" / letter["file"])[letter["row"]].to_dicts()
        kept = letter["input"]
        assert letter["reason_code"] == "unequal_lists" if kept is None else kept["query"] == row["query"]
    redriven = redrive_output(job.output, str(tmp_path / "again"))
    assert redriven.num_candidates == len(letters)
    places = pl.read_parquet(tmp_path / "again" / PLACES).to_dicts()
    assert [(place["file"], place["row"], place["was"]["index"]) for place in places] == [
        (letter["file"], letter["row"], letter["index"]) for letter in letters
    ]
    again = replace(job, input=str(tmp_path / "again"), output=str(tmp_path / "out again"))
    assert again.run(NanScorer()).totals.candidates == len(letters)


def file_of(path: str, pairs: int) -> InputFile:
    return InputFile(path, 1, FileIdentity(1, None, "0" * 64), (1,), (pairs,))


@pytest.mark.parametrize(("pairs", "aim", "num_units"), [(5, 1_024, 25), (1, 16_384, 5)])
def test_thousands_of_files_of_one_query_are_few_units(pairs: int, aim: int, num_units: int) -> None:
    """As near to the aim as can be, and of 1,024 files at most."""
    units = cut_input([file_of(f"{at:04d}", pairs) for at in range(5_000)], unit_pairs=aim)
    assert len(units) == num_units
    assert max(len(unit.spans) for unit in units) <= 1_024


class CountedFiles(MemoryFileSystem):  # type: ignore[misc]
    """Counts how often each file is opened for reading."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    opened: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("counted://", "memory://", 1)))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "r" in mode:
            self.opened[path] += 1
        return super()._open(path, mode, **options)


@pytest.fixture
def counted() -> Iterator[str]:
    fsspec.register_implementation("counted", CountedFiles, clobber=True)
    CountedFiles.store.clear()
    CountedFiles.opened.clear()
    yield "counted://in"
    CountedFiles.store.clear()


def test_each_file_is_opened_once_by_the_plan_and_once_by_its_unit(counted: str) -> None:
    filesystem = CountedFiles()
    for at in range(40):
        with filesystem.open(f"/in/{at:02d}.parquet", "wb") as sink:
            pq.write_table(nested_table([(f"q{at}", "?", [("d", "text")])]), sink)
    CountedFiles.opened.clear()
    config = InputConfig.model_validate({"path": counted})
    plan = plan_input(config, unit_pairs="auto")
    assert set(CountedFiles.opened.values()) == {1}
    [unit] = plan.units
    rows = plan.source.read(unit)
    assert rows.queries["query_id"].to_pylist() == [f"q{at}" for at in range(40)]
    assert Counter(CountedFiles.opened.values()) == {2: 40}


def plan_of(folder: Path, *extras: pa.Array | None) -> InputPlan:
    """A file a column `extra`; None leaves it out."""
    for at, extra in enumerate(extras):
        table = nested_table([(f"q{at}", "?", [("d", "text")])])
        write(table if extra is None else table.append_column("extra", extra), folder / f"{at}.parquet")
    return plan_input(InputConfig.model_validate({"path": str(folder)}), unit_pairs="auto")


def test_files_share_a_unit_only_where_no_value_changes_its_type(tmp_path: Path) -> None:
    """Dead letters keep every column, also those that nobody asked for."""
    nothing, text, number = pa.nulls(1), pa.array(["x"]), pa.array([1])
    item, other = pa.array([{"a": 1}]), pa.array([{"b": "x", "a": None}])
    plan = plan_of(tmp_path / "alike", nothing, text, None, pa.array(["y"]).dictionary_encode())
    assert [len(unit.spans) for unit in plan.units] == [4]
    plan = plan_of(tmp_path / "fields", item, other, nothing)
    assert [len(unit.spans) for unit in plan.units] == [3]
    plan = plan_of(tmp_path / "unlike", nothing, text, number, pa.array([2.5]), nothing)
    assert [len(unit.spans) for unit in plan.units] == [2, 1, 2]
    plan = plan_of(tmp_path / "nested", pa.array([[1]]), pa.array([[]], pa.list_(pa.null())), pa.array([["x"]]))
    assert [len(unit.spans) for unit in plan.units] == [2, 1]


def test_a_file_of_a_unit_that_was_replaced_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *[None] * 5)
    write(nested_table([("other", "?", [("d", "text")])]), tmp_path / "3.parquet")
    with pytest.raises(InputError, match=r"3.parquet has changed since the plan was made"):
        plan.source.read(plan.units[0])


def test_what_the_files_of_a_unit_unpack_to_is_bounded_together(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *[None] * 50)
    whole = plan.units[0]
    alone = replace(whole, spans=whole.spans[:1], num_pairs=1)
    limit = next(limit for limit in range(0, 10_000, 50) if reads(plan, alone, limit))
    assert reads(plan, replace(whole, spans=whole.spans[:2]), 2 * limit)
    with pytest.raises(InputError, match=r"\.parquet unpacks to more than 0 MiB .* with the other 49 files\. Lower"):
        plan.source.read(whole, max_bytes=2 * limit)


def reads(plan: InputPlan, unit: WorkUnit, limit: int) -> bool:
    try:
        plan.source.read(unit, max_bytes=limit)
    except InputError:
        return False
    return True
