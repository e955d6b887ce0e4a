"""A memo part is read as it was written, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nightly import FINGERPRINT, Night, first_night, keys_of, publish, publish_one, score, unit_id

from reranker_batch.core.memo import (
    MEMO_DTYPE,
    MemoRows,
    from_column,
    in_order,
    memo_rows,
    memo_table,
    query_starts,
    to_column,
)
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.reuse.source import open_source
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.memo import read_memo, read_memo_queries
from reranker_batch.storage.output.scratch import Scratch

TABLE = [(f"query {at % 3}", f"document {at}") for at in range(9)]


def drawn(rows: int, seed: int, distinct: int) -> MemoRows:
    """Any values in all fields, hashes out of a few so that pairs repeat."""
    rng = np.random.default_rng(seed)
    memo = np.frombuffer(rng.bytes(rows * MEMO_DTYPE.itemsize), MEMO_DTYPE).copy()
    memo["logit"] = rng.normal(size=rows)
    for name in ("q0", "q1", "d0", "d1"):
        memo[name] = np.uint64(2**63) + rng.integers(0, distinct, rows).astype(np.uint64)
    return memo


@given(rows=st.integers(0, 60), seed=st.integers(0, 2**32), distinct=st.integers(1, 5))
@settings(max_examples=40)
def test_rows_come_back_distinct_and_in_order(rows: int, seed: int, distinct: int) -> None:
    memo = drawn(rows, seed, distinct)
    ordered = in_order(memo)
    by_pair: dict[tuple[int, ...], tuple[object, ...]] = {}
    for row in memo.tolist():
        by_pair.setdefault(row[:4], row)
    assert {row[:4] for row in ordered.tolist()} == by_pair.keys()
    assert set(ordered.tolist()) <= set(memo.tolist())
    assert ordered["q0"].tolist() == sorted(ordered["q0"].tolist())
    assert ordered["q0"][query_starts(ordered)].tolist() == sorted(set(memo["q0"].tolist()))
    assert memo_rows(memo_table(memo)).tolist() == memo.tolist()


@given(rows=st.integers(0, 30), keep=st.integers(0, 30))
@settings(max_examples=20)
def test_rows_go_through_a_column_that_is_filtered_and_joined(rows: int, keep: int) -> None:
    memo = drawn(rows, 1, 3)
    table = pa.table({"memo": to_column(memo)})
    assert from_column(table["memo"]).tolist() == memo.tolist()
    assert from_column(table.slice(keep)["memo"]).tolist() == memo[keep:].tolist()
    is_kept = np.arange(rows) % 2 == 0
    both = pa.concat_tables([table.filter(pa.array(is_kept)), table.filter(pa.array(~is_kept))])
    assert from_column(both["memo"]).tolist() == memo[is_kept].tolist() + memo[~is_kept].tolist()


def test_a_part_holds_the_pairs_once_whatever_their_order_was(tmp_path: Path) -> None:
    rows = keys_of(TABLE)
    score(TABLE, rows, np.arange(len(TABLE)))
    night = publish(tmp_path, [rows, np.concatenate([rows[::-1], rows])])
    first, second = night.files.values()
    assert first.num_rows == second.num_rows == len(TABLE)
    for at, file in enumerate((first, second)):
        read = read_memo(night.output, unit_id(at), sha256=file.sha256)
        assert read.tolist() == in_order(rows).tolist()
    stamp, queries = read_memo_queries(night.output, unit_id(0))
    assert (stamp.differences(FINGERPRINT), queries.tolist()) == ([], np.unique(rows["q0"]).tolist())


@pytest.mark.parametrize("candidates", [10, 40])
def test_a_pair_takes_28_bytes_at_most(tmp_path: Path, candidates: int) -> None:
    rng, num = np.random.default_rng(0), 400 * candidates
    rows = np.zeros(num, MEMO_DTYPE)
    for name in ("d0", "d1"):
        rows[name] = rng.integers(0, 2**64, num, dtype=np.uint64)
    for name in ("q0", "q1"):
        rows[name] = np.repeat(rng.integers(0, 2**64, 400, dtype=np.uint64), candidates)
    rows["logit"] = rng.normal(size=num)
    rows["document_item_tokens"] = rows["document_tokens"] = rng.integers(1, 512, num)
    rows["nights"] = rng.integers(0, 7, num)
    (file,) = publish(tmp_path, [rows]).files.values()
    assert file.size_bytes / num <= 28


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> str:
    pq.write_table(change(pq.read_table(path)), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stamped(**values: object) -> Callable[[pa.Table], pa.Table]:
    stamp = {"scoring_fingerprint": FINGERPRINT, "kind": "pairs", "version": 1, **values}
    return lambda table: table.replace_schema_metadata({"reranker_batch_memo": json.dumps(stamp)})


def open_again(night: Night, folder: Path) -> None:
    scratch = Scratch.fresh(Folder.at(str(folder)), "reuse")
    open_source(night.output, night.files, scratch, scoring_fingerprint=FINGERPRINT)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"version": 2}, "memo version: 2 -> 1"),
        ({"kind": "listwise"}, "kind of scores: listwise -> pairs"),
        ({"scoring_fingerprint": "e" * 64}, "scoring fingerprint: eeeeeeeeeeee -> ffffffffffff"),
    ],
)
def test_a_memo_that_is_read_in_another_way_is_refused_by_name(
    tmp_path: Path, values: dict[str, object], line: str
) -> None:
    """Whatever its columns are: one of another version may have others."""
    night = first_night(tmp_path / "a", TABLE, 3)
    path = tmp_path / "a" / "memo" / f"part-{unit_id(1)}.parquet"
    names = ["logit"] if "scoring_fingerprint" not in values else pq.read_schema(path).names
    sha256 = rewritten(path, lambda table: stamped(**values)(table.select(names)))
    with pytest.raises(ConfigError, match=f"(?s)unit {unit_id(1)} .* cannot be reused:\n  {line}"):
        open_again(night, tmp_path / "b")
    if "scoring_fingerprint" not in values:
        with pytest.raises(ConfigError, match=line):
            read_memo(night.output, unit_id(1), sha256=sha256)


def test_further_columns_and_stamps_are_ignored(tmp_path: Path) -> None:
    night = first_night(tmp_path / "a", TABLE, 9)
    path = tmp_path / "a" / "memo" / f"part-{unit_id(0)}.parquet"
    before = read_memo(night.output, unit_id(0), sha256=night.files[unit_id(0)].sha256)
    wider = stamped(more=True)
    sha256 = rewritten(path, lambda table: wider(table.append_column("pieces", pa.array([1] * len(table)))))
    assert read_memo(night.output, unit_id(0), sha256=sha256).tolist() == before.tolist()


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign", "no parquet"])
def test_a_damaged_part_is_named(tmp_path: Path, damage: str) -> None:
    night = first_night(tmp_path / "a", TABLE, 9)
    path = tmp_path / "a" / "memo" / f"part-{unit_id(0)}.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        pq.write_table(pa.table({"q0": [1]}), path)
    elif damage == "no parquet":
        path.write_bytes(b"text")
    with pytest.raises(CommitError, match=rf"memo/part-{unit_id(0)}\.parquet .*Set reuse\.from to another output"):
        open_again(night, tmp_path / "b")
    with pytest.raises(CommitError, match=r"Set reuse\.from to another output"):
        read_memo(night.output, unit_id(0), sha256=night.files[unit_id(0)].sha256)


def test_a_part_that_is_published_again_is_replaced(tmp_path: Path) -> None:
    night = first_night(tmp_path, TABLE, 9)
    again = publish_one(night.output, 0, np.zeros(0, MEMO_DTYPE))
    assert again.num_rows == 0
    assert len(read_memo(night.output, unit_id(0), sha256=again.sha256)) == 0
