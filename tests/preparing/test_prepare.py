"""A run joined with its queries and its corpus: what comes out, what is counted, what is refused."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from references import SMALL, Reference, contents, prepare_in, prepared, queries_in, write_lines

from reranker_batch.errors import FingerprintError, InputError
from reranker_batch.preparing.joining.missing import likely_cause
from reranker_batch.preparing.record import PreparedFolder, RowCounts
from reranker_batch.storage.files.filesystem import Folder


def counts_of(goal: Path) -> RowCounts:
    record = PreparedFolder(Folder.at(str(goal))).read()
    assert record is not None
    assert record.counts is not None
    return record.counts


@fuzzed
@given(seed=st.integers(0, 1 << 32))
def test_it_is_the_join_that_dictionaries_make(seed: int) -> None:
    reference = Reference.random(seed)
    with tempfile.TemporaryDirectory() as name:
        config, goal = reference.write(Path(name)), Path(name) / "out"
        whole = replace(reference, settings={**reference.settings, "on_missing": "dead_letter"}).joined()
        joins = all([any(query[1] for query in whole), any(one[1] for query in whole for one in query[2])])
        if whole and not joins:
            with pytest.raises(InputError, match="of the run is an id of prepare"):
                prepared(config, goal)
            return
        prepared(config, goal)
        assert queries_in(goal) == reference.joined()
        counts = counts_of(goal)
        assert (counts.rows, counts.accounted) == (len(reference.rows), len(reference.rows))


def test_rows_and_what_is_counted(tmp_path: Path) -> None:
    reference = replace(SMALL, rows=[*SMALL.rows, ("q2", "d2", 0.9), ("q1", "gone", 5.0), ("q3", "d1", 1.0)])
    config = replace(reference, settings={"depth": 3, "drop_identical_ids": True}).write(tmp_path)
    record = prepared(config, tmp_path / "out")
    assert record.counts == RowCounts(
        rows=8,
        candidates=4,
        missing_documents=1,
        missing_queries=1,
        identical=1,
        repeated=1,
        cut_by_depth=0,
        queries=3,
        query_rows=2,
        corpus_rows=4,
    )
    assert queries_in(tmp_path / "out") == [
        ("q1", "first", [("gone", None, 5.0, 1), ("d3", "three", 2.0, 2), ("d1", "one", 1.0, 3)]),
        ("q2", "second", [("d2", "two", 0.9, 1), ("d1", "one", 0.5, 2)]),
        ("q3", None, [("d1", "one", 1.0, 1)]),
    ]
    missing = pl.read_parquet(tmp_path / "out" / "_missing.parquet")
    assert missing.rows() == [("missing_query", "q3", "d1"), ("missing_document", "q1", "gone")]
    assert [*(tmp_path / "out").glob("_work*")] == []


@pytest.mark.parametrize("num_ranges", [1, 3])
def test_the_order_of_the_rows_changes_no_byte(tmp_path: Path, num_ranges: int) -> None:
    rows = [(f"q{number % 7}", f"d{number}", float(number % 5)) for number in range(60)]
    texts = {f"d{number}": f"text {number}" for number in range(60)}
    reference = Reference(rows, {f"q{number}": f"query {number}" for number in range(7)}, texts)
    goals = []
    for name in ("sorted", "shuffled"):
        config = replace(reference, rows=rows).write(tmp_path / name)
        goals.append(tmp_path / name / "out")
        prepare_in(config, goals[-1], num_ranges=num_ranges)
        rows = random.Random(3).sample(rows, len(rows))
    assert contents(goals[0]) == contents(goals[1])
    assert len(contents(goals[0])) == num_ranges + 1


@pytest.mark.parametrize("document_buckets", [1, 2, 5])
@pytest.mark.parametrize("num_ranges", [1, 4])
def test_buckets_change_no_row(tmp_path: Path, num_ranges: int, document_buckets: int) -> None:
    for seed in range(5):
        reference = replace(Reference.random(seed, num_queries=9), settings={})
        reference = replace(reference, corpus={**reference.corpus, reference.rows[0][1]: "there"})
        reference = replace(reference, queries={**reference.queries, reference.rows[0][0]: "there"})
        goal = tmp_path / f"out{seed}"
        config = reference.write(tmp_path / str(seed))
        prepare_in(config, goal, num_ranges=num_ranges, document_buckets=document_buckets)
        assert queries_in(goal) == reference.joined()
        assert len([*goal.glob("part-*")]) <= num_ranges
        assert counts_of(goal).accounted == len(reference.rows)


def test_a_query_with_fifty_thousand_candidates(tmp_path: Path) -> None:
    rows = [("q", f"d{number}", float(number)) for number in range(50_000)] + [("r", "d7", 1.0)]
    texts = {f"d{number}": f"text {number}" for number in range(50_000)}
    config = Reference(rows, {"q": "query", "r": "other"}, texts).write(tmp_path)
    prepared(config, tmp_path / "out")
    (_, _, first), (_, _, second) = queries_in(tmp_path / "out")
    assert first == [
        (f"d{number}", f"text {number}", float(number), 50_000 - number) for number in reversed(range(50_000))
    ]
    assert second == [("d7", "text 7", 1.0, 1)]


@pytest.mark.parametrize("kind", ["queries", "corpus"])
def test_an_id_that_is_there_twice_is_refused_with_both_places(tmp_path: Path, kind: str) -> None:
    config, one = SMALL.write(tmp_path), {"queries": "q1", "corpus": "d1"}[kind]
    path = tmp_path / f"{kind}.jsonl"
    path.write_text(path.read_text() + f'{{"_id": "{one}", "text": "again"}}\n')
    last = len(path.read_text().splitlines())
    with pytest.raises(InputError, match=rf"prepare.{kind}: the id '{one}' is there twice: .*line 1, .*line {last}\."):
        prepared(config, tmp_path / "out")
    prepared(SMALL.config(tmp_path, on_duplicate_id="first"), tmp_path / "out")
    assert queries_in(tmp_path / "out") == SMALL.joined()
    assert (
        getattr(counts_of(tmp_path / "out"), {"queries": "duplicate_queries", "corpus": "duplicate_documents"}[kind])
        == 1
    )
    assert (
        f"duplicate_{'query' if kind == 'queries' else 'document'}"
        in pl.read_parquet(tmp_path / "out" / "_missing.parquet")["problem"].to_list()
    )


def test_a_missing_id_is_refused_where_that_is_asked(tmp_path: Path) -> None:
    reference = replace(SMALL, corpus={"d1": "one"}, settings={"on_missing": "fail"})
    with pytest.raises(InputError, match=r"prepare.corpus has no text for ids of the run: .*on_missing"):
        prepared(reference.write(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("asked", "known", "cause"),
    [
        (["7", "12"], ["007", "012"], "leading zeros"),
        (["7", "12"], ["7.0", "12.0"], "7.0 and 7"),
        (["MED-1", "MED-2"], ["med-1", "med-2"], "upper and lower case"),
        (["D1", "D2"], ["1", "2"], "begin with 'D'"),
        (["1", "2"], ["msmarco_1", "msmarco_2"], "begin with 'msmarco_'"),
        (["1 ", "2 "], ["1", "2"], "blanks"),
        (["a.txt", "b.txt"], ["docs/a.txt", "docs/b.txt"], "paths"),
        (["1", "2"], ["alpha", "beta"], "whole numbers, those of the other side texts"),
    ],
)
def test_why_nothing_joins(asked: list[str], known: list[str], cause: str) -> None:
    assert cause in likely_cause(asked, known)


@pytest.mark.parametrize("kind", ["queries", "corpus"])
def test_nothing_joins_at_all(tmp_path: Path, kind: str) -> None:
    zeros = {f"0{key}": text for key, text in getattr(SMALL, kind).items()}
    reference = replace(SMALL, rows=[(row[0], row[1], row[2]) for row in SMALL.rows], **{kind: zeros})
    column = {"queries": "query_id", "corpus": "doc_id"}[kind]
    with pytest.raises(InputError, match=rf"No {column} of the run is an id of prepare.{kind} .*The run has '.*has '0"):
        prepared(reference.write(tmp_path), tmp_path / "out")
    prepared(SMALL.write(tmp_path), tmp_path / "out")
    assert queries_in(tmp_path / "out") == SMALL.joined()


@pytest.mark.parametrize("score", ["NaN", "nan", "high", "1,5", "", "1_0", "0x1F"])
def test_a_score_that_is_no_number_is_refused_with_its_line(tmp_path: Path, score: str) -> None:
    SMALL.write(tmp_path)
    run = tmp_path / "run.tsv"
    run.write_text(f"qid\tdocid\tscore\nq1\td1\t1.5\nq1\td2\t{score}\n")
    with pytest.raises(InputError, match=rf"run.tsv, line 3: the score {score!r} is no number"):
        prepared(SMALL.config(tmp_path, run=str(run)), tmp_path / "out")


def test_scores_are_compared_as_numbers_of_64_bits(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    run = tmp_path / "run.tsv"
    scores = {"d1": "1.0000000000000002", "d2": "1", "d3": "+1e0", "q1": "-inf"}
    run.write_text("qid\tdocid\tscore\n" + "".join(f"q1\t{key}\t {score}\n" for key, score in scores.items()))
    prepared(SMALL.config(tmp_path, run=str(run)), tmp_path / "out")
    [(_, _, candidates)] = queries_in(tmp_path / "out")
    assert [candidate[0] for candidate in candidates] == ["d1", "d2", "d3", "q1"]


def test_without_scores_ranks_decide_and_without_ranks_the_place(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    run = tmp_path / "run.tsv"
    run.write_text("q1\td3\t10\nq1\td1\t9\nq1\td2\t9\n")
    prepared(SMALL.config(tmp_path, run={"path": str(run), "rank": 2}), tmp_path / "ranks")
    assert [one[0] for one in queries_in(tmp_path / "ranks")[0][2]] == ["d1", "d2", "d3"]
    run.write_text("q1\td3\nq1\td1\nq1\td2\nq1\td1\n")
    prepared(SMALL.config(tmp_path, run=str(run)), tmp_path / "places")
    assert [one[0] for one in queries_in(tmp_path / "places")[0][2]] == ["d3", "d1", "d2"]
    assert counts_of(tmp_path / "places").repeated == 1


def test_a_list_of_documents_in_a_row(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    rows = [{"query-id": "q2", "corpus-ids": ["d2", "d1"]}, {"query-id": "q1", "corpus-ids": []}]
    write_lines(tmp_path / "top.jsonl", [*rows, {"query-id": "q1", "corpus-ids": ["d3"]}])
    prepared(SMALL.config(tmp_path, run=str(tmp_path / "top.jsonl")), tmp_path / "out")
    assert queries_in(tmp_path / "out") == [
        ("q1", "first", [("d3", "three", None, 1)]),
        ("q2", "second", [("d2", "two", None, 1), ("d1", "one", None, 2)]),
    ]


def test_ids_of_numbers_and_of_texts_are_the_same(tmp_path: Path) -> None:
    write_lines(tmp_path / "run.jsonl", [{"qid": 1, "docid": "07", "score": 2}, {"qid": "1", "docid": 7, "score": 1}])
    write_lines(tmp_path / "queries.jsonl", [{"_id": "1", "text": "query"}])
    pl.DataFrame({"_id": [7, 8], "text": ["seven", "eight"]}).write_parquet(tmp_path / "corpus.parquet")
    config = SMALL.config(tmp_path, corpus=str(tmp_path / "corpus.parquet"))
    prepared(config, tmp_path / "out")
    assert queries_in(tmp_path / "out") == [("1", "query", [("07", None, 2.0, 1), ("7", "seven", 1.0, 2)])]


def test_a_null_id_is_refused_with_its_line(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    write_lines(tmp_path / "run.jsonl", [{"qid": "q1", "docid": "d1"}, {"qid": "q1", "docid": None}])
    with pytest.raises(InputError, match=r"run.jsonl, line 2: 'docid' is null"):
        prepared(SMALL.config(tmp_path), tmp_path / "out")


def test_a_text_that_is_null_is_missing(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    write_lines(tmp_path / "corpus.jsonl", [{"_id": "d1", "text": None}, {"_id": "d2", "text": ""}])
    prepared(SMALL.config(tmp_path), tmp_path / "out")
    texts = {one[0]: one[1] for query in queries_in(tmp_path / "out") for one in query[2]}
    assert texts == {"d1": None, "d2": "", "d3": None, "q1": None}


def test_queries_that_are_there_without_a_text_are_told_as_such(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    write_lines(tmp_path / "queries.jsonl", [{"_id": "q1", "text": None}, {"_id": "q2", "text": None}])
    with pytest.raises(InputError, match=r"has the ids, such as 'q1', 'q2'. Check prepare.queries.text, now text"):
        prepared(SMALL.config(tmp_path), tmp_path / "out")


@pytest.mark.parametrize(("value", "shown"), [(["a"], "a list"), ({"en": "a"}, "an object")], ids=str)
def test_lists_and_objects_are_neither_texts_nor_ids(tmp_path: Path, value: object, shown: str) -> None:
    for name, row, message in (
        ("corpus", {"_id": "d1", "text": value}, f"'text' is {shown}, a text is expected.* in prepare.corpus.text"),
        ("corpus", {"_id": "d1", "title": value, "text": "a"}, f"'title' is {shown}, a text"),
        ("queries", {"_id": "q1", "text": value}, f"'text' is {shown}, a text is expected.* in prepare.queries.text"),
        ("corpus", {"_id": value, "text": "a"}, rf"_id' (of corpus.jsonl )?is (an id: )?{shown}.*whole number"),
        ("run", {"qid": value, "docid": "d1"}, rf"qid' (of run.jsonl )?is (an id: )?{shown}.*whole number"),
    ):
        SMALL.write(tmp_path)
        write_lines(tmp_path / f"{name}.jsonl", [row])
        with pytest.raises(InputError, match=message):
            prepared(SMALL.config(tmp_path), tmp_path / "out")


def test_texts_that_are_numbers_are_read_as_text(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    write_lines(tmp_path / "corpus.jsonl", [{"_id": "d1", "title": 7, "text": 1.5}])
    prepared(SMALL.config(tmp_path), tmp_path / "out")
    assert "7 1.5" in {one[1] for query in queries_in(tmp_path / "out") for one in query[2]}


def test_title_and_text_are_joined(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    titles = [{"_id": "d1", "title": "A", "text": " b "}, {"_id": "d2", "title": None, "text": "c"}]
    write_lines(tmp_path / "corpus.jsonl", [*titles, {"_id": "d3", "title": "", "text": None}])
    prepared(SMALL.config(tmp_path), tmp_path / "out")
    texts = {one[0]: one[1] for query in queries_in(tmp_path / "out") for one in query[2]}
    assert texts == {"d1": "A  b", "d2": "c", "d3": "", "q1": None}


def test_other_settings_or_files_are_refused_with_the_difference(tmp_path: Path) -> None:
    prepared(SMALL.write(tmp_path), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(FingerprintError, match=r"settings.depth: null -> 2"):
        prepared(SMALL.config(tmp_path, depth=2), tmp_path / "out")
    replace(SMALL, rows=SMALL.rows[1:]).write(tmp_path)
    with pytest.raises(FingerprintError, match=r"sources.run.run_jsonl|sources.run.run.jsonl.size_bytes"):
        prepared(SMALL.config(tmp_path), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_run_without_rows_is_input_without_rows(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    pl.DataFrame({"qid": [], "docid": [], "score": []}).write_parquet(tmp_path / "run.parquet")
    prepared(SMALL.config(tmp_path, run=str(tmp_path / "run.parquet")), tmp_path / "out")
    assert queries_in(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["run.tsv", "run.jsonl", "corpus.jsonl"])
def test_a_file_of_lines_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    config = SMALL.write(tmp_path)
    (tmp_path / name).write_text("")
    key = name.partition(".")[0]
    config = SMALL.config(tmp_path, **{key: str(tmp_path / name)})
    with pytest.raises(InputError, match=f"prepare.{key}: {name} has no rows"):
        prepared(config, tmp_path / "out")
