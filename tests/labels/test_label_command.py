"""`reranker-batch label`: teachers run first, whatever the form of their input; what is wrong is told before that."""

from __future__ import annotations

import json
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from engine import NAN, NanScorer
from oracle import HashScorer
from teachers import Bench, ChosenScorer, chosen

from reranker_batch.cli import run_command

ROOT = Path(__file__).parents[2]
QUERIES = ["read a file", "sort a list"]
TEXTS = ["open() returns a file object.", "list.sort() sorts a list in place.", "A tuple is immutable."]


def candidates(query: int) -> list[dict[str, Any]]:
    return [{"doc_id": f"d{at}", "text": f"{text} {query}", "grade": int(at == query)} for at, text in enumerate(TEXTS)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Labels of one teacher that has to run, on JSON lines."""
    rows = [{"query_id": f"q{at}", "query": query, "candidates": candidates(at)} for at, query in enumerate(QUERIES)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {"model": {"name": "builtin:mini", "device": "cpu", "precision_sample": 0}, "runtime": {"engine": "local"}}
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(model))
    labels = {
        "teachers": [{"name": "mini", "output": str(tmp_path / "mini"), "config": str(tmp_path / "teacher.yaml")}],
        "positives": {"from": "column", "column": "grade"},
        "exports": [{"format": "st-list", "target": str(tmp_path / "set")}],
    }
    values = {
        "input": {"path": str(tmp_path / "in.jsonl")},
        "labels": labels,
        "output": {"path": str(tmp_path / "labels")},
    }
    (tmp_path / "label.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "label.yaml"


def change(path: Path, **keys: Any) -> None:
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, **keys}))


def test_a_teacher_runs_on_json_lines_and_its_labels_are_exported(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["label", str(config)]) == 0
    said = capsys.readouterr().out
    assert "2 with labels of 2" in said
    rows = pl.read_parquet(config.parent / "labels" / "labels" / "*.parquet").to_dicts()
    assert [row["query"] for row in rows] == QUERIES
    assert [row["positives"][0]["doc_id"] for row in rows] == ["d0", "d1"]
    assert [row["positives"][0]["qrel"] for row in rows] == [1, 1]
    assert [len(row["negatives"]) for row in rows] == [2, 2]
    assert (config.parent / "set" / "export.json").exists()
    assert (config.parent / "labels" / "run" / "report.html").exists()
    times = {path: path.stat().st_mtime_ns for path in (config.parent / "mini").rglob("*.parquet")}
    assert run_command(["label", str(config)]) == 0
    assert "0 made by this command" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (config.parent / "mini").rglob("*.parquet")} == times


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"output": {"layout": "pairs"}}, "Teacher mini: its output has output.layout: pairs"),
        ({"ranking": {"top_n": 3}}, "Teacher mini: its output was trimmed to ranking.top_n=3"),
        ({"modle": {}}, "Teacher mini, "),
        ({"output": "here"}, "output: this is a section"),
    ],
)
def test_a_config_of_a_teacher_that_cannot_be_joined_is_refused_before_anything_runs(
    config: Path, teacher: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(config.parent / "teacher.yaml", **teacher)
    assert run_command(["label", str(config)]) == 2
    assert message in capsys.readouterr().err
    assert not (config.parent / "mini").exists()
    assert not (config.parent / "labels").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"positives": {"from": "qrels", "qrels": "gone.txt"}}, "The qrels gone.txt cannot be read"),
        ({"positives": {"from": "column", "column": "gone"}}, "Column 'gone' is missing"),
        (
            {"positives": {"from": "column", "column": "document"}},
            "column: document: a column of the output has this name",
        ),
        ({"positives": {"from": "column", "column": "index"}}, "column: index: a column of the output has this name"),
        ({"exports": [{"format": "st-list", "target": "there"}]}, "holds files of something else"),
        ({"exports": [{"format": "trec", "target": "labels/run.trec"}]}, "labels/run.trec lies in the output"),
        ({"exports": [{"format": name, "target": "a"} for name in ("st-list", "st-pair")]}, "two exports have one"),
    ],
)
def test_what_would_be_refused_at_the_end_is_refused_before_a_teacher_runs(
    config: Path,
    labels: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(config.parent)
    Path("there").mkdir()
    Path("there/notes.txt").write_text("of somebody")
    change(config, labels={**yaml.safe_load(config.read_text())["labels"], **labels}, output={"path": "labels"})
    assert run_command(["label", str(config)]) == 2
    assert message in capsys.readouterr().err
    assert not (config.parent / "mini").exists()


def test_a_finished_teacher_whose_config_was_changed_is_refused(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scores are of the old model; where it runs and how it is batched decides nothing."""
    assert run_command(["label", str(config)]) == 0
    teacher = yaml.safe_load((config.parent / "teacher.yaml").read_text())
    change(config.parent / "teacher.yaml", model={**teacher["model"], "name": "models/another"})
    assert run_command(["label", str(config)]) == 2
    said = capsys.readouterr().err
    assert "was made with other settings than" in said
    assert 'model.name: "builtin:mini" -> "models/another"' in said
    change(config.parent / "teacher.yaml", model=teacher["model"], limits={"max_pair_tokens": 100})
    assert run_command(["label", str(config)]) == 2
    assert "limits.max_pair_tokens: null -> 100" in capsys.readouterr().err
    other = {"model": {**teacher["model"], "device": "auto"}, "limits": {}}
    change(config.parent / "teacher.yaml", **other, batching={"max_batch_tokens": 4096})
    assert run_command(["label", str(config)]) == 0


def test_a_teacher_with_an_input_of_its_own_keeps_the_column_of_judgments(config: Path) -> None:
    values = yaml.safe_load(config.read_text())
    change(config.parent / "teacher.yaml", input=values["input"])
    change(config, input=None)
    assert run_command(["label", str(config)]) == 0


def test_a_column_of_judgments_is_refused_for_an_input_that_is_prepared_from_a_run(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {name: str(config.parent / name) for name in ("run", "queries", "corpus")}
    change(config.parent / "teacher.yaml", prepare=tables)
    change(config, input=None)
    assert run_command(["label", str(config)]) == 2
    assert "labels.positives.column=grade: the input of teacher mini is prepared" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["mini", "mini/labels", "."])
def test_labels_inside_or_around_a_teacher_are_refused(
    config: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["label", str(config), "--set", f"output.path={config.parent / place}"]) == 2
    assert "teacher mini" in capsys.readouterr().err or place == "."


def test_lists_of_sections_are_not_set_on_the_command_line_and_the_config_is_printed(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["label", str(config), "--set", "labels.teachers=[a]"]) == 2
    assert "a list of sections with name, output, config, weight" in capsys.readouterr().err
    wanted = ["--set", "labels.negatives.rank=[1, null]", "--set", "labels.negatives.num=3", "--print-config"]
    assert run_command(["label", str(config), *wanted]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["labels"]["negatives"]["rank"] == [1, None]
    assert printed["labels"]["negatives"]["num"] == 3


def test_the_entry_point_for_clusters_makes_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    bench.write_input([("q", "query", [("a", "text"), ("b", "another")])])
    bench.teach("one", HashScorer())
    (tmp_path / "label.yaml").write_text(bench.config(["one"]).to_yaml())
    more = ["--set", "labels.negatives.relative_margin=null"]
    monkeypatch.setattr("sys.argv", ["label.py", "--config", str(tmp_path / "label.yaml"), *more])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "jobs" / "label.py"), run_name="__main__")
    assert ended.value.code == 0
    assert len(bench.rows()) == 1


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    """One teacher that has finished."""
    bench = Bench(tmp_path)
    bench.write_input([chosen("q", ("a", 3.0), ("b", 2.0), ("c", 1.0))], grade=["high"])
    bench.teach("one", ChosenScorer(0))
    return bench


def label_with(bench: Bench, input: Mapping[str, Any] | None = None, **labels: Any) -> int:
    values = yaml.safe_load(bench.config(["one"], **labels).to_yaml())
    (bench.folder / "label.yaml").write_text(yaml.safe_dump({**values, "input": input}))
    return run_command(["label", str(bench.folder / "label.yaml")])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["one/set"], "one/set is the output of teacher one or lies around or in it"),
        (["in/set"], "is inside what the input reads"),
        (["."], "is the output of teacher one or lies around"),
        (["a", "a/"], "a/ is or lies around or in "),
        (["a", "a/b"], "a/b is or lies around or in "),
    ],
)
def test_exports_into_what_labels_are_made_from_or_into_each_other_are_refused(
    place: Bench, targets: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file more in the folder of the input would make every later command refuse it."""
    exports = [{"format": "st-list", "target": f"{place.folder}/{target}"} for target in targets]
    assert label_with(place, input={"path": str(place.folder / "in")}, exports=exports) == 2
    assert message in capsys.readouterr().err
    assert label_with(place, scale="none") == 0
    capsys.readouterr()
    if len(targets) == 1:
        arguments = [str(place.folder / "labels"), f"{place.folder}/{targets[0]}", "--format", "st-list"]
        assert run_command(["export", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_labels_inside_the_input_of_a_teacher_are_refused(place: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "label.yaml").write_text(place.config(["one"]).to_yaml())
    inside = f"output.path={place.folder / 'in' / 'labels'}"
    assert run_command(["label", str(place.folder / "label.yaml"), "--set", inside]) == 2
    assert "is inside what the input reads" in capsys.readouterr().err


def test_judgments_of_other_ids_are_told(place: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "qrels.txt").write_text("other 0 a 1\n")
    assert label_with(place, positives={"from": "qrels", "qrels": str(place.folder / "qrels.txt")}) == 0
    assert "No candidate is a positive: " in capsys.readouterr().err


def test_a_training_set_that_cannot_be_made_keeps_no_other_one_back(
    place: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    exports = [{"format": name, "target": str(place.folder / name)} for name in ("st-n-tuple", "st-list")]
    assert label_with(place, scale="none", exports=exports) == 1
    said = capsys.readouterr().err
    assert "The labels are complete, but not all of labels.exports:" in said
    assert "has no row for --format st-n-tuple: 1 too_few_negatives." in said
    assert (place.folder / "st-list" / "export.json").exists()
    assert run_command(["status", str(place.folder / "labels")]) == 0


def test_labels_of_which_nothing_was_made_are_begun_anew_with_other_settings(
    place: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label_with(place, positives={"from": "column", "column": "grade"}) == 2
    assert "grade is a column of the queries" in capsys.readouterr().err
    assert label_with(place, scale="none") == 0
    assert label_with(place, scale="robust") == 2
    assert 'labels.scale: "none" -> "robust"' in capsys.readouterr().err


def test_a_teacher_that_is_not_served_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Told by its state: an output that is gated is not to be run again, and one without its report is damaged."""
    bench = Bench(tmp_path)
    bench.write_input([("q", "query", [("a", f"text {NAN}"), ("b", "text")])])
    bench.teach("one", NanScorer(), max_failed=0)
    (tmp_path / "label.yaml").write_text(bench.config(["one"], negatives={"min_num": 0}).to_yaml())
    assert run_command(["label", str(tmp_path / "label.yaml")]) == 2
    said = capsys.readouterr().err
    assert "Teacher one: " in said
    assert "too many failed. 1 dead letters are more than" in said
    assert "`reranker-batch accept` lets it through." in said
    assert run_command(["accept", str(tmp_path / "one")]) == 0
    assert run_command(["label", str(tmp_path / "label.yaml")]) == 0
    (tmp_path / "one" / "run" / "report.json").unlink()
    assert run_command(["label", str(tmp_path / "label.yaml")]) == 1
    assert "scores/_SUCCESS is there, but" in capsys.readouterr().err


def test_a_teacher_that_was_interrupted_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path)
    bench.write_input([("q", "query", [("a", "text")])])
    bench.teach("one", HashScorer())
    (tmp_path / "one" / "scores" / "_SUCCESS").unlink()
    (tmp_path / "label.yaml").write_text(bench.config(["one"]).to_yaml())
    assert run_command(["label", str(tmp_path / "label.yaml")]) == 2
    assert "interrupted. It ended before scores/_SUCCESS was written. Its own `run`" in capsys.readouterr().err
