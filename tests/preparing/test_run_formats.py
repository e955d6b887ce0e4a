"""The forms of a run, as tools write them, and which of their columns are taken."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from references import SMALL, prepared, queries_in, write_lines

from reranker_batch.errors import InputError

RIGHT = [("q1", ["d3", "d1"]), ("q2", ["d2"])]
"""By the scores 2, 1 and 0.5, and by the ranks 1, 2 and 1."""

TREC = "q1 Q0 d1 2 1.0 tag\nq1 Q0 d3 1 2.0 tag\nq2 Q0 d2 1 0.5 tag\n"
MSMARCO = "q1\td3\t1\nq1\td1\t2\nq2\td2\t1\n"
SCORED = "q1\td1\t1.0\nq1\td3\t2.0\nq2\td2\t0.5\n"
HEADED = "query-id\tcorpus-id\tscore\n" + SCORED


def ids_in(folder: Path, **settings: Any) -> list[tuple[str, list[str]]]:
    SMALL.write(folder)
    prepared(SMALL.config(folder, **settings), folder / "out")
    return [(query_id, [one[0] for one in candidates]) for query_id, _, candidates in queries_in(folder / "out")]


@pytest.mark.parametrize(
    ("name", "text", "run_format", "columns"),
    [
        ("run.trec", TREC, "auto", {}),
        ("run.txt", TREC.replace(" ", "\t"), "auto", {}),
        ("run.tsv", TREC.replace(" ", "\t"), "auto", {}),
        ("run.tsv", TREC.replace(" ", "  "), "trec", {}),
        ("run.bm25", TREC.replace("Q0", "0"), "trec", {}),
        ("qrels.txt", "q1 0 d1 1\nq1 0 d3 2\nq2 0 d2 1\n", "auto", {}),
        ("run.tsv", MSMARCO, "auto", {}),
        ("run.tsv", MSMARCO, "msmarco", {}),
        ("run.tsv", SCORED, "auto", {}),
        ("run.tsv", MSMARCO.replace("\t1", "\t7").replace("\t2", "\t8"), "tsv", {"rank": 2}),
        ("run.tsv", SCORED.replace(".0", ""), "tsv", {"score": 2}),
        ("run.tsv", "d1\tx\tq1\t1\nd3\tx\tq1\t2\nd2\tx\tq2\t3\n", "tsv", {"query_id": 2, "doc_id": 0, "score": 3}),
        ("test.tsv", HEADED, "auto", {}),
        ("run.csv", HEADED.replace("\t", ","), "auto", {}),
        ("run.tsv", "a\tb\tc\n" + SCORED, "tsv", {"query_id": "a", "doc_id": "b", "score": "c"}),
    ],
)
def test_a_run_of_lines(tmp_path: Path, name: str, text: str, run_format: str, columns: dict[str, Any]) -> None:
    (tmp_path / name).write_text(text)
    assert ids_in(tmp_path, run={"path": str(tmp_path / name), **columns}, run_format=run_format) == RIGHT
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    run = {"path": str(tmp_path / f"{name}.gz"), **columns}
    again = ids_in(tmp_path / "gz", run=run, run_format=run_format)
    assert again == RIGHT


@pytest.mark.parametrize("run_format", ["auto", "parquet"])
def test_a_run_of_parquet(tmp_path: Path, run_format: str) -> None:
    columns = {"q_id": ["q1", "q1", "q2"], "doc_id": ["d1", "d3", "d2"], "score": [1, 2, 3]}
    pl.DataFrame(columns).with_columns(pl.col("score").cast(pl.Float32)).write_parquet(tmp_path / "run.parquet")
    assert ids_in(tmp_path, run=str(tmp_path / "run.parquet"), run_format=run_format) == RIGHT


@pytest.mark.parametrize("run_format", ["auto", "jsonl"])
def test_a_run_of_json_lines_with_paths(tmp_path: Path, run_format: str) -> None:
    rows = [("q1", "d1", "1.0"), ("q1", "d3", "2"), ("q2", "d2", "3e0")]
    write_lines(tmp_path / "r.jsonl", [{"q": {"id": q}, "d": {"id": d}, "s": {"bm25": s}} for q, d, s in rows])
    run = {"path": str(tmp_path / "r.jsonl"), "query_id": "q.id", "doc_id": "d.id", "score": "s.bm25"}
    assert ids_in(tmp_path, run=run, run_format=run_format) == RIGHT


def test_scores_that_are_named_may_have_fractions(tmp_path: Path) -> None:
    rows = [("q1", "d1", 0.5), ("q1", "d3", 2), ("q2", "d2", -1.5e-3)]
    write_lines(tmp_path / "a.jsonl", [{"qid": q, "docid": d, "bm25": s} for q, d, s in rows])
    write_lines(tmp_path / "b.jsonl", [{"qid": q, "docid": d, "by": {"bm25": s}} for q, d, s in rows])
    for name, score in (("a", "bm25"), ("b", "by.bm25")):
        assert ids_in(tmp_path / name, run={"path": str(tmp_path / f"{name}.jsonl"), "score": score}) == RIGHT


def test_of_two_columns_with_ids_it_is_the_one_that_corpora_have(tmp_path: Path) -> None:
    """PyTerrier numbers documents in `docid`; these numbers may be ids of other documents."""
    columns = {"qid": ["q1", "q1", "q2"], "docid": [3, 1, 0], "docno": ["d1", "d3", "d2"], "score": [1.0, 2.0, 3.0]}
    pl.DataFrame(columns).write_parquet(tmp_path / "run.parquet")
    assert ids_in(tmp_path, run=str(tmp_path / "run.parquet")) == RIGHT


def test_an_object_of_queries_and_scores_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"q1": {"d1": 1.5, "d3": 2.0}, "q2": {"d2": 1.0}}')
    with pytest.raises(
        InputError, match=r"run.json is one object with the ids of queries for names.*TREC, TSV or JSON"
    ):
        ids_in(tmp_path, run=str(tmp_path / "run.json"))


@pytest.mark.parametrize("name", ["queries", "corpus"])
@pytest.mark.parametrize("line", ["d1\thttps://x.org\ttitle\tbody", "d1\ttitle\tbody"])
def test_which_of_several_columns_without_names_is_the_text_is_not_guessed(
    tmp_path: Path, name: str, line: str
) -> None:
    SMALL.write(tmp_path)
    (tmp_path / "texts.tsv").write_text(f"{line}\n{line.replace('d1', 'q1')}\n")
    place = str(tmp_path / "texts.tsv")
    with pytest.raises(InputError, match=rf"prepare.{name}: it cannot be told which .* Set prepare.{name}.text to its"):
        prepared(SMALL.config(tmp_path, **{name: place}), tmp_path / "out")
    last = line.count("\t")
    prepared(SMALL.config(tmp_path, **{name: {"path": place, "text": [last - 1, last]}}), tmp_path / "out")
    texts = {one[1] for query in queries_in(tmp_path / "out") for one in ((None, query[1]), *query[2])}
    assert "title body" in texts


@pytest.mark.parametrize(
    ("text", "run", "message"),
    [
        ("q1\td1\t5\nq1\td3\t6\n", {}, r"cannot be told what the 3 columns of run.tsv are; .*'?q1'?, '?d1'?, '?5'?"),
        ("q1\td1\t5\tx\n", {}, r"cannot be told what the 4 columns"),
        ("a\tb\nq1\td1\n", {"query_id": "a"}, r"no column is known as doc_id. Columns: a, b. Set prepare.run.doc_id"),
        (
            HEADED,
            {"score": "bm25"},
            r"prepare.run.score: there is no column 'bm25'. Columns: query-id, corpus-id, score",
        ),
    ],
)
def test_a_run_that_cannot_be_understood_is_refused(
    tmp_path: Path, text: str, run: dict[str, Any], message: str
) -> None:
    (tmp_path / "run.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        ids_in(tmp_path, run={"path": str(tmp_path / "run.tsv"), **run})


@pytest.mark.parametrize(
    ("corpus", "columns"),
    [
        ("d1\tone\nd2\ttwo\n", {}),
        ("0\tone\td1\n0\ttwo\td2\n", {"id": 2, "text": 1}),
        ("docid\tcontents\nd1\tone\nd2\ttwo\n", {}),
        ("pid\ttitle\ttext\nd1\t\tone\nd2\ttwo\t\n", {}),
        ("key\tbody\nd1\tone\nd2\ttwo\n", {"id": "key"}),
    ],
)
def test_the_columns_of_a_corpus(tmp_path: Path, corpus: str, columns: dict[str, Any]) -> None:
    SMALL.write(tmp_path)
    (tmp_path / "corpus.tsv").write_text(corpus)
    prepared(SMALL.config(tmp_path, corpus={"path": str(tmp_path / "corpus.tsv"), **columns}), tmp_path / "out")
    texts = {one[0]: one[1] for query in queries_in(tmp_path / "out") for one in query[2]}
    assert texts == {"d1": "one", "d2": "two", "d3": None, "q1": None}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ([0.5, 0.1], r"run.jsonl, line 1: the lists 'score' and 'doc_id' have 1 and 2 values"),
        (0.5, r"'score' .* different types|'score' is no list"),
    ],
)
def test_lists_of_scores_are_compared_row_by_row(tmp_path: Path, second: object, message: str) -> None:
    rows = [
        {"query_id": "q1", "doc_id": ["d1", "d3"], "score": [1.0] if isinstance(second, list) else 1.0},
        {"query_id": "q2", "doc_id": ["d2"], "score": second},
    ]
    write_lines(tmp_path / "run.jsonl", rows)
    with pytest.raises(InputError, match=message):
        ids_in(tmp_path / "in", run=str(tmp_path / "run.jsonl"))


def test_a_file_of_other_columns_is_named(tmp_path: Path) -> None:
    for name, second in (("header", "d3\tz\nd1\ty\n"), ("names", "id\tbody\nd3\tz\n")):
        folder = tmp_path / name
        (folder / "corpus").mkdir(parents=True)
        (folder / "corpus" / "a.tsv").write_text("id\ttext\nd2\tx\n")
        (folder / "corpus" / "b.tsv").write_text(second)
        with pytest.raises(InputError, match=r"b.tsv has no column '(id|text)', which .* other files .* have"):
            ids_in(folder / "in", corpus=str(folder / "corpus"))
    pl.DataFrame({"query_id": ["q1"], "hits": [[{"doc_id": "d1"}]]}).write_parquet(tmp_path / "run.parquet")
    with pytest.raises(InputError, match=r"prepare.run.doc_id: 'hits.doc_id' leads through the list 'hits'"):
        ids_in(tmp_path / "in", run={"path": str(tmp_path / "run.parquet"), "doc_id": "hits.doc_id"})


def test_an_empty_run_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "run.txt").touch()
    with pytest.raises(InputError, match=r"run.txt is empty. Check prepare.run"):
        ids_in(tmp_path / "in", run=str(tmp_path / "run.txt"))


def test_files_without_headers_have_the_same_number_of_columns(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a.tsv").write_text(MSMARCO)
    (tmp_path / "runs" / "b.tsv").write_text(TREC.replace(" ", "\t"))
    with pytest.raises(InputError, match=r"a.tsv has 3 columns without names, another of the files 6"):
        ids_in(tmp_path / "in", run=str(tmp_path / "runs"))
