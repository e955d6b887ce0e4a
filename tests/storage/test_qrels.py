import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reranker_batch.errors import InputError
from reranker_batch.storage.input.qrels import read_qrels

ROWS = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d1", -1)]


def rows(path: Path) -> list[tuple[str, str, int]]:
    return sorted(tuple(row.values()) for row in read_qrels(str(path)).to_pylist())


@pytest.mark.parametrize(
    "text", ["q1 0 d1 2\nq1\tQ0\td2  0\r\n\n q2 0 d1 -1", "\ufeffq2 0 d1 -1\nq1 0 d1 2\nq1 0 d2 0\n"]
)
def test_trec_columns_stand_between_any_spaces(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert rows(path) == ROWS
    compressed = tmp_path / "qrels.txt.gz"
    compressed.write_bytes(gzip.compress(text.encode()))
    assert rows(compressed) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n\nq2\td1\t-1\n",
        "\ufeffrelevance\tmore\tquery_id\tdoc_id\r\n2\tx\tq1\td1\r\n0\t\tq1\td2\r\n-1\t\tq2\td1",
    ],
)
def test_a_table_with_tabs_names_its_columns_in_the_first_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_text(text, encoding="utf-8", newline="")
    assert rows(path) == ROWS


@pytest.mark.parametrize("names", [("query_id", "doc_id", "relevance"), ("query-id", "corpus-id", "score")])
def test_parquet_columns_have_our_names_or_those_of_beir(tmp_path: Path, names: tuple[str, str, str]) -> None:
    columns = dict(zip(names, zip(*ROWS, strict=True), strict=True))
    path = tmp_path / "qrels"
    pq.write_table(pa.table({"more": [1, 2, 3], **{name: list(values) for name, values in columns.items()}}), path)
    assert rows(path) == ROWS


def test_ids_become_the_strings_of_the_output(tmp_path: Path) -> None:
    path = tmp_path / "qrels.parquet"
    table = pa.table(
        {
            "query_id": [7, 8],
            "doc_id": pa.array([1.0, 2.5]).dictionary_encode(),
            "relevance": pa.array([1, 3], pa.int8()),
        }
    )
    pq.write_table(table, path)
    assert rows(path) == [("7", "1", 1), ("8", "2.5", 3)]


def test_a_judgment_that_comes_twice_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("q1 0 d1 1\nq1 0 d1 1\n")
    assert rows(path) == [("q1", "d1", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 0 d1 1\nq1 0 d1 2\n", "document d1 of query q1 two relevances"),
        ("q1 0 d1 1\nq2 d1 1\n", "Line 2 of the qrels .* is 'q2 d1 1'"),
        ("q1 0 d1 0.5\n", "whole number"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1 d2 1\n", "Line 3 of the qrels .* is 'q1 d2 1'. The columns of its"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1.5\n", "whole number"),
        ("\n", "no judgment"),
    ],
)
def test_what_is_no_judgment_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_qrels(str(path))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query_id": ["q"], "doc_id": ["d"]}, "no column relevance; found: query_id, doc_id"),
        ({"query_id": ["q"], "doc_id": ["d"], "relevance": ["1"]}, "is text"),
        ({"query_id": ["q"], "doc_id": ["d"], "relevance": [0.5]}, "cannot be read: .*0.5"),
        ({"query_id": ["q"], "doc_id": ["d"], "relevance": pa.array([None], pa.int32())}, "relevance .* are null"),
    ],
)
def test_columns_that_cannot_be_used_are_named(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = tmp_path / "qrels.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=message):
        read_qrels(str(path))


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"qrels .*nothing\.txt cannot be read"):
        read_qrels(str(tmp_path / "nothing.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="neither Parquet nor UTF-8"):
        read_qrels(str(tmp_path / "binary"))
