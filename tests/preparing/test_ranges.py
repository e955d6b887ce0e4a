"""Ranges of queries: where they begin, how many rows each has, and that nothing but the rows decides about it."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Reference, contents, prepare_in, queries_in

from reranker_batch.preparing.joining.ranges import RowSample, ranges_of
from reranker_batch.preparing.work import Work, file_name
from reranker_batch.storage.files.bucketed import new_bucket_file
from reranker_batch.storage.files.filesystem import Folder

Pair = tuple[str, str]
KEYS = st.text(alphabet="abé0🙂", max_size=3)


def sample_of(rows: list[Pair], most: int = 1 << 16, step: int = 7) -> RowSample:
    """In tables of a few rows."""
    sample = RowSample(most)
    for start in range(0, len(rows), step):
        queries, documents = zip(*rows[start : start + step], strict=True)
        sample.add(pa.array(queries, pa.large_string()), pa.array(documents, pa.large_string()))
    return sample


def bounds_of(rows: list[Pair], count: int, most: int = 1 << 16) -> list[bytes]:
    bounds: list[bytes] = sample_of(rows, most).bounds(count).to_pylist()
    return bounds


def pairs_of(sizes: dict[str, int]) -> list[Pair]:
    return [(query, f"d{at}") for query, size in sizes.items() for at in range(size)]


def sizes_in(rows: list[Pair], bounds: list[bytes]) -> list[int]:
    """Rows of each range."""
    of_range = Counter(bisect_right(bounds, row[0].encode()) for row in rows)
    return [of_range[at] for at in range(len(bounds) + 1)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(KEYS, KEYS), max_size=60), most=st.integers(1, 70), seed=st.integers(0, 99))
def test_neither_the_order_of_rows_nor_tables_decide(rows: list[Pair], most: int, seed: int) -> None:
    mixed = random.Random(seed).sample(rows, len(rows))
    whole, pieces = sample_of(rows, most), RowSample(most)
    for start in range(0, len(mixed), 11):
        pieces.add_table(sample_of(mixed[start : start + 11], most, step=3).table())
    assert pieces.table() == whole.table()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(sizes=st.dictionaries(KEYS, st.integers(1, 40), min_size=1, max_size=12), count=st.integers(1, 9))
def test_a_range_has_its_share_and_one_query_more_at_most(sizes: dict[str, int], count: int) -> None:
    rows = pairs_of(sizes)
    bounds = bounds_of(rows, count)
    assert bounds == sorted(set(bounds))
    ranges = sizes_in(rows, bounds)
    assert min(ranges) > 0
    assert len(ranges) <= count
    assert max(ranges) <= -(-len(rows) // count) + max(sizes.values())


def test_a_small_part_of_the_rows_tells_enough() -> None:
    """A thousand queries of one row each, between two of which one has as many."""
    rows = pairs_of({f"q{at:04}": 1_000 if at == 500 else 1 for at in range(1_001)})
    ranges = sizes_in(rows, bounds_of(rows, 8, most=400))
    assert len(ranges) in (5, 6)
    assert sorted(ranges)[-1] < 1_250
    assert sorted(ranges)[-2] < 450


@pytest.mark.parametrize("prefix", ["", "https://example.org/" + "a" * 300 + "/"], ids=["short", "long"])
def test_equal_prefixes_do_not_matter(prefix: str) -> None:
    rows = pairs_of({f"{prefix}{at:03}": 4 for at in range(100)})
    assert sizes_in(rows, bounds_of(rows, 5)) == [80] * 5


def test_of_a_long_key_the_beginning_decides() -> None:
    rows = pairs_of({"a": 50, **{"b" * 2_000 + str(at): 5 for at in range(10)}, "c": 50})
    bounds = bounds_of(rows, 3)
    assert sizes_in(rows, bounds) == [50, 50, 50]
    assert max(map(len, bounds)) <= 1_024


@settings(max_examples=100, deadline=None, derandomize=True)
@given(bounds=st.sets(KEYS, max_size=5), keys=st.lists(KEYS, max_size=20))
def test_a_key_is_in_the_range_that_begins_before_it(
    tmp_path_factory: pytest.TempPathFactory, bounds: set[str], keys: list[str]
) -> None:
    ordered = sorted(bound.encode() for bound in bounds)
    work = Work(Folder.at(str(tmp_path_factory.mktemp("ranges"))), "", len(ordered) + 1, 1)
    with new_bucket_file(work.folder, file_name("ranges", 0)) as file:
        file.write(0, pa.table({"key": pa.array(ordered, pa.large_binary())}))
    found = ranges_of(work, pa.array(keys, pa.large_string())).tolist()
    assert found == [sum(bound <= key.encode() for bound in ordered) for key in keys]


@pytest.mark.parametrize("num_ranges", [2, 5, 40])
def test_parts_follow_each_other(tmp_path: Path, num_ranges: int) -> None:
    """Ids that sort otherwise as numbers, one query with half of the rows, and queries without a text."""
    sizes = {str(at): 3 for at in range(20)} | {"7": 60, "é": 2, "🙂": 1}
    rows = [(query, document, float(at % 7)) for at, (query, document) in enumerate(pairs_of(sizes))]
    reference = Reference(
        random.Random(1).sample(rows, len(rows)),
        {query: f"query {query}" for query in [*sizes][::2]},
        {f"d{at}": f"text {at}" for at in range(55)},
    )
    goals = tmp_path / "mixed" / "out", tmp_path / "sorted" / "out"
    prepare_in(reference.write(tmp_path / "mixed"), goals[0], num_ranges=num_ranges)
    prepare_in(replace(reference, rows=rows).write(tmp_path / "sorted"), goals[1], num_ranges=num_ranges)
    assert queries_in(goals[0]) == reference.joined()
    assert contents(goals[0]) == contents(goals[1])
    parts = [pl.read_parquet(path)["query_id"].to_list() for path in sorted(goals[0].glob("part-*"))]
    assert all(parts)
    assert min(num_ranges, 4) - 1 <= len(parts) <= num_ranges
