"""`run` with a `prepare` section, by the command: the input is prepared first, and once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from layout_files import configs_of, expected_of, lay_out, letters_of, load, right_letters, right_rows, rows_of
from references import REFERENCE_FILES, Reference, queries_in, score, write_lines
from typed import run_here

from reranker_batch.cli import run_command
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.preparing.joining.named_folders import prepare_settings

SMALL = Reference(
    [("q1", "d1", 1.0), ("q2", "d2", 0.5), ("q1", "gone", 2.0)],
    {"q1": "where does the river begin", "q2": "how is paper made"},
    {"d1": "The river begins at a spring.", "d2": "Paper is made of wood."},
)


def config_file(folder: Path, **sections: Any) -> Path:
    SMALL.write(folder)
    values = {
        "prepare": {name: str(folder / f"{name}.jsonl") for name in REFERENCE_FILES},
        "model": {"name": "builtin:mini", "device": "cpu"},
        "output": {"path": str(folder / "out"), "max_failed": 1},
        "runtime": {"engine": "local"},
        **sections,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(values))
    return folder / "job.yaml"


def test_one_command_prepares_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_file(tmp_path)
    assert run_command(["run", str(config)]) == 0
    scored = pl.read_parquet(tmp_path / "out" / "scores" / "*.parquet")
    assert scored.select("query_id", "doc_id", "index").rows() == [("q1", "d1", 1), ("q2", "d2", 0)]
    letters = pl.read_parquet(tmp_path / "out" / "dead_letters" / "*.parquet")
    assert letters.select("query_id", "doc_id", "index", "reason_code").rows() == [
        ("q1", "gone", 0, "missing_document")
    ]
    files = sorted(path.name for path in (tmp_path / "out" / "run" / "input").iterdir())
    assert files == ["_missing.parquet", "_prepared.json", "part-00000.parquet"]
    assert "were left out" not in capsys.readouterr().err
    before = (tmp_path / "out" / "run" / "input" / "part-00000.parquet").stat().st_mtime_ns
    assert run_command(["run", str(config)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "run" / "input" / "part-00000.parquet").stat().st_mtime_ns == before
    assert run_command(["verify", str(tmp_path / "out")]) == 0
    assert run_command(["clean", str(tmp_path), "--keep", "1"]) == 0


def test_what_redrive_prints_scores_its_dead_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, again = config_file(tmp_path), tmp_path / "again"
    assert run_here(str(config)).exit_code == 0
    capsys.readouterr()
    assert run_command(["redrive", str(tmp_path / "out"), str(again)]) == 0
    settings = re.findall(r"--set (\S+?),? ", capsys.readouterr().out.replace("NEW", str(tmp_path / "out2")))
    assert settings[1:3] == ["prepare.run=null", "input.format=auto"]
    rows = pl.read_parquet(again / "part-*.parquet").to_dicts()
    rows[0]["candidates"][0]["text"] = "The river begins at a lake."
    [part] = again.glob("part-*.parquet")
    table = pq.read_table(part)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), part)
    overrides = [argument for setting in settings for argument in ("--set", setting)]
    assert run_here(str(config), *overrides).exit_code == 0
    scored = pl.read_parquet(tmp_path / "out2" / "scores" / "*.parquet")
    assert scored.select("query_id", "doc_id").rows() == [("q1", "gone")]


def test_prepare_alone_needs_its_own_section_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SMALL.write(tmp_path)
    places = {name: str(tmp_path / f"{name}.jsonl") for name in REFERENCE_FILES}
    config = tmp_path / "prepare.yaml"
    config.write_text(yaml.safe_dump({"prepare": {**places, "output": str(tmp_path / "input")}}))
    for _ in range(2):
        assert run_command(["prepare", str(config)]) == 0
        assert "3 = 2 candidates + 1 missing document" in " ".join(capsys.readouterr().out.split())
    assert queries_in(tmp_path / "input") == SMALL.joined()
    assert run_command(["prepare", str(config), "--set", "prepare.depth=1"]) == 2
    assert "settings.depth: null -> 1" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({"prepare": places}))
    assert run_command(["prepare", str(config)]) == 2
    assert "prepare.output" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({"prepare": {"output": str(tmp_path / "input")}}))
    assert run_command(["prepare", str(config)]) == 2
    assert "prepare.run" in capsys.readouterr().err


def test_the_form_of_a_run_without_a_known_name(tmp_path: Path) -> None:
    SMALL.write(tmp_path)
    (tmp_path / "run.bm25").write_text("q1 X d1 1 1.0 t\nq2 X d2 1 1.0 t\n")
    places = {name: str(tmp_path / f"{name}.jsonl") for name in REFERENCE_FILES} | {"run": str(tmp_path / "run.bm25")}
    config = tmp_path / "prepare.yaml"
    config.write_text(yaml.safe_dump({"prepare": {**places, "run_format": "trec", "output": str(tmp_path / "input")}}))
    assert run_command(["prepare", str(config)]) == 0
    assert [query[0] for query in queries_in(tmp_path / "input")] == ["q1", "q2"]


def test_several_jobs_share_one_prepared_input(tmp_path: Path) -> None:
    shared = {name: str(tmp_path / f"{name}.jsonl") for name in REFERENCE_FILES} | {"output": str(tmp_path / "input")}
    config = config_file(tmp_path, prepare=shared)
    assert run_here(str(config)).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "input").iterdir()}
    assert run_here(str(config), "--set", f"output.path={tmp_path / 'second'}").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "input").iterdir()} == before
    results = [pl.read_parquet(tmp_path / name / "scores" / "*.parquet") for name in ("out", "second")]
    assert results[0].equals(results[1])


def test_nothing_joins_ends_with_2_and_the_mended_job_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_file(tmp_path)
    write_lines(tmp_path / "corpus.jsonl", [{"_id": f"D{at}", "text": "text"} for at in range(1, 4)])
    assert run_command(["run", str(config)]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "'gone', 'd1', 'd2'" in shown
    assert "'D1', 'D2', 'D3'" in shown
    assert "upper and lower case differ" in shown
    assert not (tmp_path / "out" / "scores").exists()
    SMALL.write(tmp_path)
    assert run_here(str(config)).exit_code == 0


def test_a_model_that_is_not_there_is_refused_before_anything_is_prepared(tmp_path: Path) -> None:
    config = config_file(tmp_path, model={"name": str(tmp_path / "nowhere"), "device": "cpu"})
    assert run_command(["run", str(config)]) == 2
    assert not (tmp_path / "out").exists()


NAMES = ["beir", "long_ids", "msmarco_run", "mteb_new", "trec"]


@pytest.mark.parametrize(("name", "config"), [(name, config) for name in NAMES for config in configs_of(name)])
def test_a_layout_with_a_corpus_is_scored_by_config_alone(
    name: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(name, tmp_path / "in"))
    score(load(Path(config), tmp_path / "out"))
    assert rows_of(tmp_path / "out") == right_rows(expected_of(name))
    assert letters_of(tmp_path / "out") == right_letters(expected_of(name))


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (
            ["queries.jsonl", "run.trec"],
            r"No corpus \(corpus\) is there.* has queries.jsonl, run.trec. Set prepare.corpus",
        ),
        (["queries.jsonl", "corpus.jsonl.gz", "qrels"], r"No run .*prepare.run to one; .*qrels/test.tsv"),
        (["queries.jsonl", "corpus.jsonl", "run.trec", "run.b.tsv"], r"prepare.run may be run.b.tsv or run.trec"),
        ([], "does not exist, or is empty"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_with_what_it_has(
    tmp_path: Path, present: list[str], missing: str
) -> None:
    for name in present:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    values = {"input": {"format": "beir", "path": str(tmp_path / "in")}, "output": {"path": str(tmp_path / "out")}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**values, "model": {"name": "builtin:mini"}}))
    with pytest.raises(InputError, match=missing):
        prepare_settings(load(tmp_path / "job.yaml", tmp_path / "out"))


def test_a_source_inside_the_output_is_refused(tmp_path: Path) -> None:
    SMALL.write(tmp_path / "out")
    (tmp_path / "job.yaml").write_text(
        yaml.safe_dump({"prepare": {name: str(tmp_path / "out" / f"{name}.jsonl") for name in REFERENCE_FILES}})
    )
    with pytest.raises(ConfigError, match="could not be resumed"):
        score(load(tmp_path / "job.yaml", tmp_path / "out"))
