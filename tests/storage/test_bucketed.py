from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reranker_batch.errors import CommitError
from reranker_batch.storage.files.bucketed import BucketFile, new_bucket_file
from reranker_batch.storage.files.filesystem import Folder

ROWS = st.lists(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=5)), max_size=8), max_size=6)


def written(
    folder: Path, rows: list[list[tuple[int, str]]], facts: dict[str, int], *, flush_bytes: int = 200
) -> BucketFile:
    place = Folder.at(str(folder))
    with new_bucket_file(place, "rows", flush_bytes=flush_bytes) as file:
        for table in rows:
            texts = pa.table({"text": pa.array([text for _, text in table], pa.large_string())})
            file.add(texts, np.array([bucket for bucket, _ in table], dtype=np.int64))
        file.facts.update(facts)
    return BucketFile.open(place, "rows")


@settings(max_examples=40)
@given(ROWS)
def test_a_bucket_has_its_rows_in_the_order_in_which_they_were_added(rows: list[list[tuple[int, str]]]) -> None:
    with TemporaryDirectory() as folder:
        file = written(Path(folder), rows, {"rows": 7})
        for bucket in range(11):
            read = [text for table in file.tables(bucket) for text in table["text"].to_pylist()]
            assert read == [text for table in rows for number, text in table if number == bucket]
        assert file.facts == {"rows": 7}


def test_tables_may_have_other_columns(tmp_path: Path) -> None:
    """A column that has no value in the first rows has no type there."""
    tables = [pa.table({"s": values}) for values in ([None, None], [1.5], [2.5], [None])]
    with new_bucket_file(Folder.at(str(tmp_path)), "rows") as file:
        for table in tables:
            file.add(table, np.zeros(len(table), dtype=np.int64))
    read = [*BucketFile.open(Folder.at(str(tmp_path)), "rows").tables(0)]
    assert [value for table in read for value in table["s"].to_pylist()] == [None, None, 1.5, 2.5, None]
    assert len(read) == 3


def test_what_a_reader_keeps_does_not_grow_with_the_pieces_of_a_bucket(tmp_path: Path) -> None:
    """A billion rows go to thousands of buckets from hundreds of files, each in many small pieces."""
    rows = [[(bucket, f"text {number}") for bucket in range(5)] for number in range(200)]
    file = written(tmp_path, rows, {})
    assert len(list(file.tables(3))) > 50
    assert len(file.bounds) == 6
    (start, stop) = file.bounds[3:5].tolist()
    assert 0 < start < stop < (tmp_path / "rows").stat().st_size


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_file_that_is_cut_off_is_named(cut: int, tmp_path: Path) -> None:
    written(tmp_path, [[(at % 3, f"text {at}") for at in range(100)]], {"rows": 100})
    path = tmp_path / "rows"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CommitError, match=r"rows cannot be read.*Delete its folder"):
        BucketFile.open(Folder.at(str(tmp_path)), "rows")


def test_a_damaged_piece_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, [[(at % 3, f"text {at}") for at in range(100)]], {})
    path = tmp_path / "rows"
    content = bytearray(path.read_bytes())
    content[int(file.bounds[1])] ^= 255
    path.write_bytes(content)
    with pytest.raises(CommitError, match="rows is damaged"):
        list(file.tables(1))
