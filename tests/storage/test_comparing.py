from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outputs import finished
from ranked_outputs import Ranked, write_output

from reranker_batch.core.movement import Movement
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.comparing import compare_outputs, compare_with_first_stage
from reranker_batch.storage.output.query_join import _Buckets, join_by_query
from reranker_batch.storage.output.ranked_lists import read_ranked_lists

Layout = Literal["pairs", "nested"]
LAYOUTS: list[Layout] = ["pairs", "nested"]


@st.composite
def queries(draw: st.DrawFn) -> list[Ranked]:
    """Some of ten queries in any order, each with some of twelve documents."""
    numbers = draw(st.lists(st.integers(0, 9), unique=True, max_size=8))
    return [(f"q{number}", draw(documents())) for number in numbers]


@st.composite
def documents(draw: st.DrawFn) -> list[tuple[str, float]]:
    chosen = draw(st.lists(st.integers(10, 21), unique=True, max_size=12))
    scores = sorted((float(draw(st.integers(-3, 3))) for _ in chosen), reverse=True)
    return [(f"d{number}", score) for number, score in zip(chosen, scores, strict=True)]


def read(output: Folder) -> list[Ranked]:
    return [
        (row["query_id"], list(zip(row["doc_id"], row["logit"], strict=True)))
        for table in read_ranked_lists(output)
        for row in table.to_pylist()
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=25)
@given(queries(), st.integers(1, 4), st.integers(1, 5))
def test_lists_are_read_as_they_were_written_whatever_the_row_groups(
    layout: Layout, lists: list[Ranked], unit_queries: int, row_group_size: int
) -> None:
    with TemporaryDirectory() as folder:
        output = write_output(
            Path(folder, "out"), lists, layout=layout, unit_queries=unit_queries, row_group_size=row_group_size
        )
        assert read(output) == [(query_id, ranked) for query_id, ranked in lists if ranked]


@settings(max_examples=25)
@given(queries(), queries(), st.sampled_from(LAYOUTS), st.integers(1, 4), st.randoms(use_true_random=False))
def test_units_order_and_layout_do_not_change_what_moved(
    before: list[Ranked], after: list[Ranked], layout: Layout, unit_queries: int, chance: random.Random
) -> None:
    shuffled = chance.sample(after, len(after))
    with TemporaryDirectory() as folder:
        one = write_output(Path(folder, "before"), before)
        two = write_output(Path(folder, "after"), after)
        three = write_output(Path(folder, "shuffled"), shuffled, layout=layout, unit_queries=unit_queries)
        moved = compare_outputs(one, two)
        assert compare_outputs(one, three) == moved
    ranked = ({query_id: ids for query_id, lists in side if (ids := [d for d, _ in lists])} for side in (before, after))
    old, new = ranked
    both = old.keys() & new.keys()
    assert moved.queries == len(both)
    assert moved.queries_only_before == len(old.keys() - new.keys())
    assert moved.queries_only_after == len(new.keys() - old.keys())
    assert moved.changed_queries == sum(old[query_id][:10] != new[query_id][:10] for query_id in both)
    assert moved.documents_in_both == sum(len(set(old[query_id]) & set(new[query_id])) for query_id in both)


def test_an_output_did_not_move_against_itself(tmp_path: Path) -> None:
    output = Folder.at(str(finished(tmp_path).path))
    moved = compare_outputs(output, output)
    assert moved.queries > 0
    assert (moved.changed_queries, moved.moved_up, moved.moved_down) == (0, 0, 0)
    assert moved.rank_biased_overlap.mean == pytest.approx(1)
    assert moved.overlap_at_10.mean == 1


def test_the_first_stage_is_the_order_of_the_input(tmp_path: Path) -> None:
    output = finished(tmp_path)
    moved = compare_with_first_stage(Folder.at(str(output.path)))
    rows = pl.DataFrame(output.rows())
    query = (pl.col("rank") == 1).cum_sum()  # two files of the input have the same ids
    changed = rows.group_by(query.alias("query")).agg((pl.col("rank") - 1 != pl.col("index")).any())
    assert moved.queries == len(changed)
    assert moved.changed_queries == changed["rank"].sum() > 0
    assert moved.moved_up == (rows["index"] + 1 > rows["rank"]).sum()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_row_of_a_repeated_query_counts(tmp_path: Path, layout: Layout) -> None:
    before: list[Ranked] = [("q", [("a", 2.0), ("b", 1.0)])]
    after: list[Ranked] = [("q", [("a", 3.0), ("b", 1.0)]), ("q", [("b", 2.0), ("a", 1.0)])]
    moved = compare_outputs(
        write_output(tmp_path / "before", before),
        write_output(tmp_path / "after", after, layout=layout, unit_queries=1),
    )
    assert (moved.queries, moved.changed_queries, moved.repeated_queries) == (1, 0, 1)


def tables(numbers: Sequence[int], size: int) -> Iterator[pa.Table]:
    for start in range(0, len(numbers), size):
        yield pa.table({"query_id": [f"q{number}" for number in numbers[start : start + size]]})


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.lists(st.integers(0, 30), max_size=40),
    st.integers(1, 9),
    st.integers(1, 7),
    st.sampled_from([1, 600, 1 << 20]),
)
def test_a_join_has_each_common_query_once(
    one: list[int], two: list[int], num_buckets: int, size: int, batch_bytes: int
) -> None:
    joined = list(join_by_query(tables(one, size), tables(two, size), num_buckets=num_buckets, batch_bytes=batch_bytes))
    before = [query_id for lists in joined for query_id in lists.before["query_id"].to_pylist()]
    after = [query_id for lists in joined for query_id in lists.after["query_id"].to_pylist()]
    assert before == after
    assert sorted(before) == sorted(f"q{number}" for number in set(one) & set(two))
    assert sum(lists.num_only_before for lists in joined) == len(set(one) - set(two))
    assert sum(lists.num_only_after for lists in joined) == len(set(two) - set(one))
    assert sum(lists.num_repeated for lists in joined) == len(one) - len(set(one)) + len(two) - len(set(two))


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", [("q", [("a", 1.0)])])
    part = tmp_path / "out" / "scores" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(CommitError, match=r"part-00000\.parquet cannot be read"):
        compare_with_first_stage(output)


def test_what_is_no_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommitError, match="finished output"):
        compare_outputs(Folder.at(str(tmp_path)), Folder.at(str(tmp_path)))


def test_two_empty_outputs_have_nothing_to_compare(tmp_path: Path) -> None:
    empty = write_output(tmp_path / "empty", [])
    assert compare_outputs(empty, empty) == Movement()


def test_a_full_folder_for_temporary_files_is_named() -> None:
    with open("/dev/full", "r+b", buffering=0) as full, pytest.raises(CommitError, match="No space left.*Set TMPDIR"):
        _Buckets(full, [[]]).fill(tables([1, 2], 1))
