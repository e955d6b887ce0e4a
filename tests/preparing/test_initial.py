"""A config that is written for a table loads, plans and says what it guessed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from layout_files import NAMES, expected_of, lay_out
from object_store import object_store
from row_layouts import LAYOUTS
from tables import nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig
from reranker_batch.cli import run_command
from reranker_batch.config import InputConfig
from reranker_batch.errors import InputError
from reranker_batch.job.estimate import estimate_job
from reranker_batch.preparing.initial import first_config, write_first_config
from reranker_batch.preparing.table.folders import tables_in
from reranker_batch.preparing.table.source import look_at
from reranker_batch.storage.files.filesystem import resolve


def written(place: Path, folder: Path) -> JobConfig:
    write_first_config(str(place), folder / "job.yaml")
    return JobConfig.load(folder / "job.yaml")


def data_of(name: str, folder: Path) -> Path:
    """The folder of a layout, or the one file that its config names."""
    lay_out(name, folder)
    values = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    prepare, source = values.get("prepare", {}), values.get("input", {})
    is_folder = "queries" in prepare or source.get("path") == "."
    return folder if is_folder else folder / source.get("path", prepare.get("run"))


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_gets_a_config_that_plans_all_of_its_pairs(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = data_of(name, tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    config = written(place, tmp_path)
    assert estimate_job(config).pairs == len(expected_of(name))
    assert not Path(config.output.path).exists()


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_text_of_the_table_stands_in_the_config(tmp_path: Path, name: str) -> None:
    text = first_config(str(LAYOUTS[name].write(tmp_path / "in")))
    for pair in LAYOUTS[name].pairs:
        assert pair[3] not in text
    assert all(line.isprintable() and len(line) < 300 for line in text.split("\n"))


def test_a_guess_is_not_repeated_as_another(tmp_path: Path) -> None:
    table = pa.table({"query_id": ["q"], "query": ["a"], "doc_id": ["d"], "text": ["x"]})
    assert "It may also be" not in first_config(str(write(table, tmp_path / "in.parquet")))


def test_what_was_seen_and_guessed_stands_in_comments(tmp_path: Path) -> None:
    text = first_config(str(LAYOUTS["tevatron"].write(tmp_path / "in")))
    for line in (
        "# Seen: 1 file (jsonl), with these columns:",
        "#   query: text, 8 bytes on average",
        "#   positive_passages: lists, 0.5 items on average; an object with",
        "#     docid: text, 2 bytes on average",
        "# Guessed: Tevatron: passages with docid, title and text in two lists.",
        "output: {path: out/train}  # a new folder",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize("layout", ["nested", "pairs"])
def test_a_table_with_the_default_columns_needs_no_columns(tmp_path: Path, layout: str) -> None:
    groups = random_groups(5, max_candidates=3)
    table = nested_table(groups) if layout == "nested" else pairs_table(groups)
    write(table, tmp_path / "in" / "a.parquet")
    config = written(tmp_path / "in", tmp_path)
    assert (config.input.layout, config.input.format) == (layout, "auto")
    assert estimate_job(config).pairs == sum(len(group[2]) for group in groups)


def test_columns_of_other_names_are_guessed(tmp_path: Path) -> None:
    rows = [
        {"q": {"text": "sort", "id": at}, "hits": [{"id": 4, "doc": {"content": "x", "title": "T"}}]} for at in (1, 2)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = written(tmp_path / "in.jsonl", tmp_path).input.columns
    assert (columns.query, columns.query_id, columns.candidates, columns.doc_id) == ("q.text", "q.id", "hits", "id")
    assert columns.document == ["doc.title", "doc.content"]


def test_rows_of_pairs_in_any_order_are_grouped_first(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("query\ttext\nq\ta\nr\tb\nq\tc\n", encoding="utf-8")
    config = written(tmp_path / "in.tsv", tmp_path)
    assert config.prepare.run.path == str(tmp_path / "in.tsv")
    assert config.input.layout == "pairs"


def test_the_output_is_never_inside_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(nested_table(random_groups(3)), tmp_path / "in" / "a.parquet")
    monkeypatch.chdir(tmp_path / "in")
    text = first_config(str(tmp_path / "in"))
    assert f"output: {{path: {tmp_path / 'in'}-reranked}}" in text


def test_judged_documents_stand_in_for_a_run_that_is_not_there(tmp_path: Path) -> None:
    lay_out("beir", tmp_path / "in")
    (tmp_path / "in" / "run.trec").unlink()
    tables = tables_in(str(tmp_path / "in"))
    assert tables is not None
    assert (tables.is_judged, tables.run) == (True, str(tmp_path / "in" / "qrels" / "test.tsv"))
    assert "Name your run in prepare.run" in first_config(str(tmp_path / "in"))


def test_the_command_writes_a_new_file_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = LAYOUTS["triplets"].write(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    assert run_command(["init", str(path)]) == 0
    assert run_command(["init", str(path), "--output", "other.yaml"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["in", "job.yaml", "other.yaml"]
    assert run_command(["init", str(path)]) == 2
    assert "job.yaml is there already. Name another file with --output." in capsys.readouterr().err
    (tmp_path / "ids.jsonl").write_text('{"a": 1, "b": 2}\n', encoding="utf-8")
    assert run_command(["init", "ids.jsonl", "--output", "new.yaml"]) == 2
    assert "ids.jsonl has the columns a, b, and none of them tells" in capsys.readouterr().err
    assert not (tmp_path / "new.yaml").exists()


def test_all_lists_with_the_same_objects_are_candidates(tmp_path: Path) -> None:
    passages = {
        f"{kind}_ctxs": [{"title": "T", "text": kind, "passage_id": kind}]
        for kind in ("positive", "negative", "hard_negative")
    }
    (tmp_path / "dpr.json").write_text(json.dumps([{"question": "who?", "answers": ["a"], **passages}]))
    config = written(tmp_path / "dpr.json", tmp_path)
    assert config.input.columns.candidates == list(passages)
    assert estimate_job(config).pairs == 3


def test_a_list_that_is_empty_in_the_first_rows_is_one_of_candidates_too(tmp_path: Path) -> None:
    passages: dict[str, list[object]] = {
        "positive_ctxs": [{"title": "T", "text": "x", "passage_id": 1}],
        "negative_ctxs": [],
    }
    rows = [{"question": "who?", "answers": [], **passages}]
    (tmp_path / "dpr.json").write_text(json.dumps(rows))
    assert written(tmp_path / "dpr.json", tmp_path).input.columns.candidates == [*passages]


@pytest.mark.parametrize(
    ("row", "pairs"),
    [
        ({"query": "who?", "positive": "a", "negatives": ["b", "c"]}, 3),
        ({"query": "who?", "positives": ["a"], "negatives": ["b", "c"]}, 3),
        ({"query": "who?", "positive": ["a"], "negative": "b"}, 2),
        ({"query": "who?", "texts": ["a", "b"]}, 2),
        ({"model": "m", "input": {"query": "who?", "documents": ["a", "b"]}, "parameters": {"top_n": 1}}, 2),
    ],
    ids=str,
)
def test_no_list_of_texts_is_left_out(tmp_path: Path, row: dict[str, object], pairs: int) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert estimate_job(written(tmp_path / "rows.jsonl", tmp_path)).pairs == pairs


def test_an_object_of_lists_is_what_a_sequence_of_objects_is_stored_as(tmp_path: Path) -> None:
    passages = {"is_selected": [0, 1], "passage_text": ["a", "b"], "docid": ["d1", "d2"]}
    row = {"query": "who?", "query_id": 5, "passages": passages}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    config = written(tmp_path / "train.parquet", tmp_path)
    columns = config.input.columns
    assert (columns.candidates, columns.doc_id) == ("passages.passage_text", "passages.docid")
    assert estimate_job(config).pairs == 2


@pytest.mark.parametrize("row", [{"query-id": "q", "corpus-id": "d", "score": 1}, {"qid": "q", "corpus-ids": ["d"]}])
def test_rows_of_ids_are_said_to_be_a_run(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match=r"ids alone are a run: name it in prepare.run"):
        first_config(str(tmp_path / "test.jsonl"))
    with pytest.raises(InputError, match=r"ids alone are a run: name it in prepare.run"):
        look_at(InputConfig(path=str(tmp_path / "test.jsonl")))


def test_a_file_without_rows_is_said_to_be_empty(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", ""), ("b.json", "[]"), ("c.csv", ""), ("d.csv", "anchor,positive\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=rf"{name} has no rows"):
            first_config(str(tmp_path / name))


def test_lists_of_ranked_ids_in_a_file_are_a_run(tmp_path: Path) -> None:
    for name in ("top_ranked", "queries", "corpus"):
        (tmp_path / f"{name}.jsonl").touch()
    tables = tables_in(str(tmp_path))
    assert tables is not None
    assert tables.run == f"{tmp_path}/top_ranked.jsonl"


def test_a_folder_of_a_store_keeps_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(monkeypatch, "tables") as options:
        filesystem, _ = resolve(f"s3://tables{options}")
        for name in ("corpus.jsonl", "queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv"):
            with filesystem.open_output_stream(f"tables/beir/{name}"):
                pass
        tables = tables_in(f"s3://tables/beir/{options}")
        assert tables is not None
        assert tables.run == f"s3://tables/beir/qrels/test.tsv{options}"
        assert tables.corpus == f"s3://tables/beir/corpus.jsonl{options}"
