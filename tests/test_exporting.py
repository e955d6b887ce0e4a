"""`reranker-batch export`: what evaluation tools read back is the ranking of the output."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import ir_measures
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from engine import HashBackend, HashScorer, SmallJob
from hypothesis import given
from hypothesis import strategies as st
from outputs import finished
from tables import Group, nested_table, random_groups, write

from reranker_batch import JobConfig, export
from reranker_batch.cli import run_command
from reranker_batch.core.limits import RequestLimits
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.exporting.strict_scores import strictly_decreasing
from reranker_batch.exporting.trec import _BLANK, _LINE_OR_TAB, _is_plain
from reranker_batch.job.job import Job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.page.publishing import accept
from reranker_batch.storage.input.planning import plan_input

Layout = Literal["pairs", "nested"]
LAYOUTS: list[Layout] = ["pairs", "nested"]
LOWEST = float(np.finfo(np.float32).min)


def tied_groups() -> list[Group]:
    """Six queries; the documents of one text have ids that trec_eval would put in another order than ours."""
    texts = ["same", "other", "same", "same", "third", "other"]
    return [(f"q{row}", f"query {row}", [(f"d{at}", text) for at, text in enumerate(texts)]) for row in range(6)]


def scored(folder: Path, groups: list[Group], *, layout: Layout = "pairs", **more: Any) -> Path:
    """An output of the oracle."""
    write(nested_table(groups), folder / "in" / "a.parquet", row_group_size=2)
    SmallJob(str(folder / "in"), str(folder / layout), output_layout=layout, top_n=None, **more).run()
    return folder / layout


def ranking(output: Path) -> dict[str, list[str]]:
    """Ids of the documents of each query by `rank`, whatever the layout."""
    rows = pl.read_parquet(output / "scores" / "*.parquet")
    if "results" in rows.columns:
        rows = rows.select("query_id", "results").explode("results", empty_as_null=False).unnest("results")
    lists = rows.sort("query_id", "rank").group_by("query_id", maintain_order=True).agg("doc_id")
    return dict(lists.iter_rows())


def order_by_trec_eval(run: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """The order in which pytrec_eval has the documents of each query: with one relevant document, RR is 1 / place."""
    qrels = {f"{query} {doc}": {doc: 1} for query, documents in run.items() for doc in documents}
    runs = {key: run[key.split()[0]] for key in qrels}
    places = {
        tuple(metric.query_id.split()): round(1 / metric.value)
        for metric in ir_measures.pytrec_eval.iter_calc([ir_measures.RR], qrels, runs)
    }
    return {query: sorted(documents, key=lambda doc: places[query, doc]) for query, documents in run.items()}


def as_run(path: Path) -> dict[str, dict[str, float]]:
    run: dict[str, dict[str, float]] = {}
    for scored_doc in ir_measures.read_trec_run(str(path)):  # type: ignore[no-untyped-call]
        run.setdefault(scored_doc.query_id, {})[scored_doc.doc_id] = scored_doc.score
    return run


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=6), max_size=5))
def test_scores_decrease_strictly_and_change_only_where_they_did_not(lists: list[list[float]]) -> None:
    ordered = [sorted(scores, reverse=True) for scores in lists]
    flat = np.array([score for scores in ordered for score in scores], dtype=np.float32)
    strict = strictly_decreasing(flat, np.array([len(scores) for scores in ordered], dtype=np.int64))
    start = 0
    for scores in ordered:
        of_list = strict[start : start + len(scores)]
        assert np.isfinite(of_list).all()
        assert (np.diff(of_list.astype(np.float64)) < 0).all()
        if len(set(scores)) == len(scores):
            assert of_list.tolist() == scores
        start += len(scores)


def test_ties_at_the_lowest_float_and_at_both_zeros_are_broken() -> None:
    scores = np.array([0.0, -0.0, LOWEST, LOWEST, LOWEST], dtype=np.float32)
    strict = strictly_decreasing(scores, np.array([2, 3]))
    assert strict[0] == 0
    assert strict[1] == np.nextafter(np.float32(0), np.float32(-1))
    assert strict[4] == LOWEST
    assert strict[2] > strict[3] > strict[4]


def test_trec_eval_reads_our_ranks_although_it_orders_ties_by_id(tmp_path: Path) -> None:
    output = scored(tmp_path, tied_groups())
    exported = export(str(output), str(tmp_path / "run.trec"), format="trec")
    assert (exported.queries, exported.documents, exported.empty_queries) == (6, 36, 0)
    run = as_run(tmp_path / "run.trec")
    assert order_by_trec_eval(run) == ranking(output)
    logits = {row["doc_id"]: row["logit"] for row in pl.read_parquet(output / "scores" / "*.parquet").to_dicts()[:6]}
    assert order_by_trec_eval({"q0": logits})["q0"] != ranking(output)["q0"]


def test_a_line_of_a_trec_run_has_six_columns_and_the_exact_logit(tmp_path: Path) -> None:
    output = scored(tmp_path, [("q1", "query", [("d1", "text")])])
    export(str(output), str(tmp_path / "run"), format="trec", tag="mine")
    logit = pl.read_parquet(output / "scores" / "*.parquet")["logit"][0]
    assert (tmp_path / "run").read_text() == f"q1 Q0 d1 1 {logit} mine\n"


@pytest.mark.parametrize("name", ["trec", "msmarco", "mteb"])
def test_both_layouts_and_other_units_give_equal_bytes(name: str, tmp_path: Path) -> None:
    groups = random_groups(9, seed=5)
    written = []
    for layout in LAYOUTS:
        for unit_pairs in (5, 1000):
            target = tmp_path / f"{layout}-{unit_pairs}"
            export(str(scored(target, groups, layout=layout, unit_pairs=unit_pairs)), str(target / "f"), format=name)
            written.append((target / "f").read_bytes())
    assert written[0]
    assert written == written[:1] * 4


def test_ms_marco_has_the_rank_in_its_third_column(tmp_path: Path) -> None:
    output = scored(tmp_path, [("7", "query", [("two words", "a"), ("8", "b")])])
    export(str(output), str(tmp_path / "run.tsv"), format="msmarco")
    first, second = ranking(output)["7"]
    assert (tmp_path / "run.tsv").read_text() == f"7\t{first}\t1\n7\t{second}\t2\n"


def test_mteb_gets_its_predictions(tmp_path: Path) -> None:
    output = scored(tmp_path, tied_groups(), layout="nested")
    export(str(output), str(tmp_path / "p.json"), format="mteb", subset="en", split="dev")
    predictions = json.loads((tmp_path / "p.json").read_text())
    assert predictions["mteb_model_meta"] == {"model_name": "builtin:mini", "revision": None}
    assert predictions.keys() == {"mteb_model_meta", "en"}
    assert predictions["en"].keys() == {"dev"}
    assert {query: list(scores) for query, scores in predictions["en"]["dev"].items()} == ranking(output)
    assert order_by_trec_eval(predictions["en"]["dev"]) == ranking(output)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_json_lines_have_what_the_output_has(layout: Layout, tmp_path: Path) -> None:
    groups = random_groups(5, seed=2)
    output = scored(tmp_path, groups, layout=layout)
    exported = export(str(output), str(tmp_path / "all.jsonl"), format="jsonl")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").split("\n")[:-1]]
    rows = pl.read_parquet(output / "scores" / "*.parquet").to_dicts()
    if layout == "pairs":
        lines = [{"query_id": line["query_id"], **result} for line in lines for result in line["results"]]
    assert lines == [_through_json(row) for row in rows]
    assert exported.documents == sum(len(group[2]) for group in groups)
    assert exported.empty_queries == (0 if layout == "nested" else sum(not group[2] for group in groups))


def _through_json(row: dict[str, Any]) -> dict[str, Any]:
    """Float32 as the shortest text that gives it again."""

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return [value_of(item) for item in value]
        if isinstance(value, dict):
            return {name: value_of(item) for name, item in value.items()}
        return float(str(np.float32(value))) if isinstance(value, float) else value

    return {name: value_of(value) for name, value in row.items()}


def with_passthrough(folder: Path, **columns: pa.Array) -> Path:
    table = nested_table([("q1", "query", [("d1", "text")])])
    for name, values in columns.items():
        table = table.append_column(name, values)
    write(table, folder / "in.parquet")
    config = JobConfig.of(
        {
            "input": {"path": str(folder / "in.parquet"), "columns": {"passthrough": list(columns)}},
            "model": {"name": "builtin:mini", "device": "cpu"},
            "ranking": {"return_documents": True},
            "output": {"path": str(folder / "out")},
        }
    )
    plan = plan_input(config.input, unit_pairs=100)
    run_job(Job(config, HashBackend(scorer=HashScorer()), RequestLimits(), plan), inline_engine)
    return folder / "out"


def test_json_lines_hold_documents_and_columns_of_every_type_but_bytes(tmp_path: Path) -> None:
    when = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC"))
    output = with_passthrough(
        tmp_path, when=when, nan=pa.array([float("nan")]), big=pa.array([2**63 - 1]), tags=pa.array([["a", None]])
    )
    export(str(output), str(tmp_path / "all.jsonl"), format="jsonl")
    (result,) = json.loads((tmp_path / "all.jsonl").read_text())["results"]
    assert result["document"] == "text"
    assert result["when"] == "2023-11-14T22:13:20.123456789+00:00"
    assert (result["nan"], result["big"], result["tags"]) == (None, 2**63 - 1, ["a", None])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([[b"\xff"]]), "binary"),
        (pa.array([{"a": [b"\xff"]}]), "binary"),
        (pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int32())), "map<"),
        (pa.array([Decimal("1.5")], pa.decimal256(50, 2)), "decimal256"),
        (pa.array([2**62], pa.timestamp("ms")), ""),
    ],
)
def test_types_that_json_has_no_form_for_are_refused_by_name(values: pa.Array, kind: str, tmp_path: Path) -> None:
    output = with_passthrough(tmp_path, raw=values)
    with pytest.raises(
        ConfigError, match=f"'raw' of the output holds values of type {kind}" if kind else "no form in JSON"
    ):
        export(str(output), str(tmp_path / "all.jsonl"), format="jsonl")
    assert not (tmp_path / "all.jsonl").exists()


def test_a_document_that_repeats_keeps_its_best_place_and_a_query_its_first_row(tmp_path: Path) -> None:
    groups = [
        ("q1", "query", [("a", "one"), ("b", "two"), ("a", "three"), ("c", "four")]),
        ("q2", "other", [("a", "one")]),
        ("q1", "once more", [("d", "five"), ("e", "six")]),
        ("q3", "nothing", []),
    ]
    output = scored(tmp_path, groups, layout="nested", unit_pairs=1)
    exported = export(str(output), str(tmp_path / "run.trec"), format="trec")
    assert (exported.queries, exported.documents) == (2, 4)
    assert (exported.repeated_queries, exported.repeated_documents, exported.empty_queries) == (1, 1, 1)
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    of_first = [line for line in lines if line[0] == "q1"]
    rows = pl.read_parquet(output / "scores" / "*.parquet").filter(query_id="q1")["results"][0].to_list()
    assert [line[2] for line in of_first] == list(dict.fromkeys(row["doc_id"] for row in rows))
    assert [line[3] for line in of_first] == ["1", "2", "3"]
    with_json = export(str(output), str(tmp_path / "all.jsonl"), format="jsonl")
    assert (with_json.queries, with_json.documents, with_json.repeated_queries) == (4, 7, 0)


def test_the_command_says_what_it_wrote_and_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = scored(tmp_path, [("q1", "query", [("a", "one"), ("a", "two")]), ("q2", "none", [])])
    target = tmp_path / "new" / "run.trec.gz"
    assert run_command(["export", str(output), "--format", "trec", str(target), "--tag", "t"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{target}: 1 results of 1 queries.\n"
    assert "warning: 1 times a document was already in the list" in said.err
    assert "warning: 1 queries have no results" in said.err
    assert gzip.decompress(target.read_bytes()).startswith(b"q1 Q0 a 1 ")


@pytest.mark.parametrize("suffix", [".gz", ".zst", ""])
def test_compression_is_by_the_suffix_and_the_bytes_are_always_the_same(suffix: str, tmp_path: Path) -> None:
    output = scored(tmp_path, tied_groups())
    one, two = tmp_path / f"one.trec{suffix}", tmp_path / f"two.trec{suffix}"
    for target in (one, two):
        export(str(output), str(target), format="trec")
    assert one.read_bytes() == two.read_bytes()
    lines = pl.read_csv(one, has_header=False, separator=" ")
    assert lines.height == 36


def test_a_file_that_is_there_stays_unless_the_export_is_the_same(tmp_path: Path) -> None:
    """It may be the run that was reranked."""
    output, target = scored(tmp_path, tied_groups()), tmp_path / "run.trec.gz"
    export(str(output), str(target), format="trec")
    content = target.read_bytes()
    export(str(output), str(target), format="trec")
    for other in ({"tag": "other"}, {"tag": "t"}):
        with pytest.raises(ConfigError, match="is there already, with other content"):
            export(str(output), str(target), format="trec", **other)
    assert target.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"in", "pairs", "run.trec.gz"}


WHITESPACE = [character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()]


@pytest.mark.parametrize("character", [*WHITESPACE, "\0"])
def test_every_character_that_readers_split_at_is_known(character: str) -> None:
    assert not _is_plain(f"a{character}b", _BLANK)
    is_line = len(f"a{character}b".splitlines()) > 1 or character in "\t\0"
    assert _is_plain(f"a{character}b", _LINE_OR_TAB) != is_line


@pytest.mark.parametrize("name", ["trec", "msmarco"])
@pytest.mark.parametrize(("query_id", "doc_id"), [("", "d"), ("q\t1", "d"), ("q1", " d"), ("q1", "d\u2028e")])
def test_ids_that_a_format_cannot_hold_are_refused_by_name(
    name: str, query_id: str, doc_id: str, tmp_path: Path
) -> None:
    good: Group = ("q0", "query", [("d0", "text")])
    output = scored(tmp_path, [good, (query_id, "query", [(doc_id, "text")])], unit_pairs=1)
    target = tmp_path / "run"
    target.write_text("what was there")
    what = "document" if query_id == "q1" else "query"
    with pytest.raises(ConfigError, match=f"The {what} id .* --format {name} cannot hold"):
        export(str(output), str(target), format=name)
    assert target.read_text() == "what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "pairs", "run"}
    export(str(output), str(tmp_path / "p.json"), format="mteb")
    assert doc_id in json.loads((tmp_path / "p.json").read_text())["default"]["test"][query_id]


def test_an_output_without_results_gives_an_empty_file(tmp_path: Path) -> None:
    output = scored(tmp_path, [("q1", "query", [])])
    assert export(str(output), str(tmp_path / "run.trec"), format="trec").empty_queries == 1
    export(str(output), str(tmp_path / "p.json"), format="mteb")
    export(str(output), str(tmp_path / "all.jsonl"), format="jsonl")
    assert (tmp_path / "run.trec").read_bytes() == (tmp_path / "all.jsonl").read_bytes() == b""
    assert json.loads((tmp_path / "p.json").read_text())["default"] == {"test": {}}


def test_what_may_not_be_served_is_not_exported(tmp_path: Path) -> None:
    output = finished(tmp_path / "gated", gated=True)
    target = tmp_path / "run.trec"
    with pytest.raises(ConfigError, match=r"too many failed.*more than output.max_failed=0.*accept"):
        export(str(output.path), str(target), format="trec")
    accept(str(output.path), by="Ada")
    export(str(output.path), str(target), format="trec")
    assert target.exists()
    (output.path / "scores" / "_SUCCESS").unlink()
    (output.path / "run" / "report.json").unlink()
    with pytest.raises(ConfigError, match=r"interrupted.*The same `run` command resumes it"):
        export(str(output.path), str(target), format="trec")
    with pytest.raises(ConfigError, match="no run"):
        export(str(tmp_path / "nowhere"), str(target), format="trec")


def test_a_missing_or_swapped_part_is_not_passed_over(tmp_path: Path) -> None:
    output = finished(tmp_path)
    first, second, *_ = output.parts()
    shutil.copy(first, tmp_path / "aside")
    first.unlink()
    with pytest.raises(CommitError, match=f"scores/{first.name} is missing"):
        export(str(output.path), str(tmp_path / "run.trec"), format="trec")
    shutil.copy(second, first)
    with pytest.raises(CommitError, match=f"scores/{first.name}"):
        export(str(output.path), str(tmp_path / "run.trec"), format="trec")
    shutil.copy(tmp_path / "aside", first)
    export(str(output.path), str(tmp_path / "run.trec"), format="trec")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "ranx", "run"], "--format ranx is not known"),
        (["--format", "msmarco", "--tag", "x", "run"], "--tag does not fit --format msmarco, which takes no option"),
        (["--format", "trec", "--split", "x", "run"], "--split does not fit --format trec, which takes --tag"),
        (["--format", "trec", "--tag", "two words", "run"], "one word"),
        (["--format", "mteb", "--subset", "mteb_model_meta", "run"], "MTEB keeps this name"),
        (["--format", "trec", "run.zip"], "files of this kind are not written"),
        (["--format", "trec", "folder"], "folder is a folder"),
        (["--format", "trec", "pairs/run.trec"], "lies in the output"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    scored(tmp_path, [("q1", "query", [("d1", "text")])])
    (tmp_path / "folder").mkdir()
    assert run_command(["export", "pairs", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))
