"""What an input is, found out from its names and a sample of its rows."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from row_layouts import LAYOUTS, Pair
from tables import write

from reranker_batch import JobConfig
from reranker_batch.config.sections import Named
from reranker_batch.core.mapping import in_threads
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.job.estimate import estimate_job
from reranker_batch.preparing.ready import Conversion, look_at_input, ready_input
from reranker_batch.preparing.table.formats import FORMATS
from reranker_batch.storage.input.planning import plan_input


def job(path: Path, output: Path, **of_input: Any) -> JobConfig:
    values = {"path": str(path), **of_input}
    return JobConfig.of({"input": values, "model": {"name": "builtin:mini"}, "output": {"path": str(output)}})


def pairs_of(config: JobConfig) -> list[Pair]:
    """What a run would score, in its order."""
    look = look_at_input(config)
    conversion = Conversion.of(config, look)
    if conversion is not None:
        conversion.run(in_threads)
    plan = plan_input(ready_input(config, look), unit_pairs="auto")
    found: list[Pair] = []
    for unit in plan.units:
        rows = plan.source.read(unit)
        queries = rows.queries.select(["query_id", "query"]).take(rows.candidates["query_at"])
        columns = [*queries.columns, rows.candidates["doc_id"], rows.candidates["document"]]
        found += zip(*(column.to_pylist() for column in columns), strict=True)
    return found


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("is_named", [True, False])
def test_a_layout_is_read_by_its_name_and_recognised_without(tmp_path: Path, name: str, *, is_named: bool) -> None:
    layout = LAYOUTS[name]
    path = layout.write(tmp_path / "in")
    config = job(path, tmp_path / "out", format=layout.format if is_named else "auto")
    assert pairs_of(config) == list(layout.pairs)
    notes = look_at_input(config).notes
    assert [f"input.format: {name}" in note for note in notes] == ([] if is_named else [True])


def test_every_name_of_a_format_is_known() -> None:
    assert set(FORMATS) | {"beir", "mteb", "trec"} == set(Named.__args__)  # type: ignore[attr-defined]
    assert LAYOUTS.keys() == FORMATS.keys()


def lines(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_what_is_set_counts_before_the_format(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", '{"query": "q", "pos": ["a"], "neg": ["b"], "key": 5, "n": 7}')
    config = job(path, tmp_path / "out", format="flagembedding", columns={"query_id": "key", "passthrough": ["n"]})
    assert [pair[0] for pair in pairs_of(config)] == ["5", "5"]
    plan = plan_input(ready_input(config, look_at_input(config)), unit_pairs="auto")
    assert plan.source.reading.columns.passthrough == ["n", "list"]


def test_default_columns_that_fit_are_taken_as_they_are(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", '{"query": "q", "candidates": [{"text": "x"}], "pos": ["a"], "neg": ["b"]}')
    config = job(path, tmp_path / "out")
    assert [pair[3] for pair in pairs_of(config)] == ["x"]
    assert look_at_input(config).notes == ()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            ["qid\tquestion\tpid\theadline\tbody", "1\tq\t2\tT\tB"],
            {
                "layout": "pairs",
                "columns": {"query_id": "qid", "query": "question", "doc_id": "pid", "document": ["headline", "body"]},
            },
        ),
        (["query\ttext", "q\tx"], {"layout": "pairs", "columns": {"query_id": None, "doc_id": None}}),
    ],
)
def test_a_table_that_is_not_known_is_refused_with_a_config_that_reads_it(
    tmp_path: Path, rows: list[str], expected: dict[str, Any]
) -> None:
    path = lines(tmp_path / "in.tsv", *rows)
    with pytest.raises(InputError, match="is missing in in.tsv; found: .*may be meant:") as caught:
        look_at_input(job(path, tmp_path / "out"))
    pasted = yaml.safe_load(str(caught.value).partition("\n")[2])["input"]
    assert pasted == expected
    assert len(pairs_of(job(path, tmp_path / "out", **pasted))) == 1


def test_nested_rows_of_unknown_names_get_a_config_too(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", '{"q": {"text": "q", "id": 3}, "hits": [{"id": 4, "doc": {"content": "x"}}]}')
    with pytest.raises(InputError, match="a row is a query with its candidates") as caught:
        look_at_input(job(path, tmp_path / "out"))
    pasted = yaml.safe_load(str(caught.value).partition("\n")[2])["input"]
    assert pairs_of(job(path, tmp_path / "out", **pasted)) == [("3", "q", "4", "x")]


def test_two_formats_that_fit_are_both_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", '{"query": "q", "positive": "a", "negative": "b", "label": 1.5}')
    with pytest.raises(InputError, match="One of these may be meant") as caught:
        look_at_input(job(path, tmp_path / "out"))
    assert "format: triplets" in str(caught.value)
    assert "format: labelled-pairs" in str(caught.value)


def test_a_format_whose_columns_are_not_there_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", '{"query": "q", "pos": ["a"], "neg": ["b"]}')
    with pytest.raises(InputError, match="does not have the columns of input.format=tevatron .*found: query, pos") as e:
        look_at_input(job(path, tmp_path / "out", format="tevatron"))
    assert "format: flagembedding" in str(e.value)


def test_positions_are_for_files_without_a_header(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", '{"query": "q"}')
    with pytest.raises(ConfigError, match="has positions.* in.jsonl is jsonl: give the names"):
        look_at_input(job(path, tmp_path / "out", layout="pairs", columns={"query": 0, "document": 1}))
    headless = lines(tmp_path / "in.tsv", "q\tT\tx", "q\t\ty")
    config = job(headless, tmp_path / "out", layout="pairs", columns={"query": 0, "document": [1, 2]})
    assert [pair[3] for pair in pairs_of(config)] == ["T x", "y"]


def test_parquet_that_needs_nothing_is_read_as_it_is(tmp_path: Path) -> None:
    table = pa.table({"query": ["q"], "candidates": [[{"text": "x", "doc": {"contents": "y"}}]]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert look_at_input(job(tmp_path / "in.parquet", tmp_path / "out")).source is None
    deeper = job(tmp_path / "in.parquet", tmp_path / "out", columns={"document": "doc.contents"})
    assert look_at_input(deeper).source is not None
    assert [pair[3] for pair in pairs_of(deeper)] == ["y"]


def test_all_candidates_pass_through_only_where_the_table_is_read_as_it_is(tmp_path: Path) -> None:
    candidates = [{"text": "x", "bm25": 1.5, "doc": {"contents": "y"}}]
    pq.write_table(pa.table({"query": ["q"], "candidates": [candidates]}), tmp_path / "in.parquet")
    config = job(tmp_path / "in.parquet", tmp_path / "out", columns={"passthrough": ["candidates"]})
    plan = plan_input(ready_input(config, look_at_input(config)), unit_pairs="auto")
    assert plan.source.read(plan.units[0]).queries["candidates"].to_pylist() == [candidates]
    columns = {"passthrough": ["candidates"], "document": "doc.contents"}
    with pytest.raises(ConfigError, match="candidates is the name of a column that the converted table has itself"):
        look_at_input(job(tmp_path / "in.parquet", tmp_path / "out", columns=columns))


def test_parquet_beside_files_of_other_forms_is_read_as_before(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["q"], "candidates": [["x"]]}), tmp_path / "in.parquet")
    lines(tmp_path / "notes.csv", "a,b", "1,2")
    assert [pair[3] for pair in pairs_of(job(tmp_path, tmp_path.parent / "out"))] == ["x"]
    lists = job(tmp_path, tmp_path.parent / "lists", columns={"candidates": ["candidates"]})
    assert [pair[3] for pair in pairs_of(lists)] == ["x"]


def test_files_that_are_left_out_are_named(tmp_path: Path) -> None:
    lines(tmp_path / "in" / "a.jsonl", '{"query": "q", "pos": ["a"], "neg": ["b"]}')
    lines(tmp_path / "in" / "_b" / "b.jsonl", "{}")
    notes = look_at_input(job(tmp_path / "in", tmp_path / "out")).notes
    assert any("these were left out: _b (hidden by its name)" in note for note in notes)


def test_a_file_without_rows_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows: in.jsonl is empty"):
        look_at_input(job(lines(tmp_path / "in.jsonl"), tmp_path / "out"))


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    for date in ("2026-11-20", "2026-11-21"):
        lines(tmp_path / "in" / f"date={date}" / "a.jsonl", '{"query": "q", "pos": ["a"], "neg": []}')
    output = tmp_path / "date=2026-11-22" / "out"
    config = job(tmp_path / "in", output, columns={"passthrough": ["date"]})
    pairs_of(config)
    plan = plan_input(ready_input(config, look_at_input(config)), unit_pairs="auto")
    [unit] = plan.units
    assert plan.source.read(unit).queries["date"].to_pylist() == ["2026-11-20", "2026-11-21"]
    assert [pair[0] for pair in pairs_of(config)] == ["date=2026-11-20/a.jsonl#0", "date=2026-11-21/a.jsonl#0"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_files_that_cannot_be_opened_are_left_out_where_that_is_asked_for(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    if suffix == "jsonl":
        lines(folder / "good.jsonl", '{"query": "q", "pos": ["a"], "neg": ["b"]}')
        (folder / "bad.jsonl.gz").write_bytes(b"no gzip")
    else:
        write(pa.table({"query": ["q"], "pos": [["a"]], "neg": [["b"]]}), folder / "good.parquet")
        (folder / "bad.parquet").write_bytes(b"PAR1")
    columns = {"candidates": ["pos", "neg"]}
    config = job(folder, tmp_path / "out", columns=columns, skip_bad_files=True)
    assert [pair[-1] for pair in pairs_of(config)] == ["a", "b"]
    [note] = look_at_input(config).notes
    assert note.startswith("Skipped, as input.skip_bad_files says: bad.")
    with pytest.raises(InputError, match="bad."):
        pairs_of(job(folder, tmp_path / "other", columns=columns))


def test_parquet_of_other_columns_is_refused_for_each_file_and_with_a_config_that_reads_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(pa.table({"question": ["q"], "hits": [[{"body": "x"}]]}), tmp_path / "in" / f"{name}.parquet")
    config = job(tmp_path / "in", tmp_path / "out")
    with pytest.raises(InputError, match="2 of 2 files of .* cannot be used") as caught:
        estimate_job(config)
    assert "Column 'candidates' is missing in b.parquet; found: question, hits." in str(caught.value)
    pasted = yaml.safe_load(str(caught.value).partition("may be meant:\n")[2])["input"]
    assert [pair[3] for pair in pairs_of(job(tmp_path / "in", tmp_path / "out", **pasted))] == ["x", "x"]


def test_files_that_cannot_be_used_are_named_before_their_columns(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match="a.parquet cannot be used: it does not end like a Parquet file"):
        look_at_input(job(tmp_path / "a.parquet", tmp_path / "out", columns={"document": ["title", "text"]}))
    with pytest.raises(InputError, match="a.parquet cannot be used: it does not end like a Parquet file"):
        estimate_job(job(tmp_path / "a.parquet", tmp_path / "out"))


def test_a_file_of_no_known_form_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    path = lines(tmp_path / "notes.txt", "hello world")
    with pytest.raises(InputError, match="notes.txt is of no known form .* Known forms: parquet, jsonl"):
        look_at_input(job(path, tmp_path / "out"))
