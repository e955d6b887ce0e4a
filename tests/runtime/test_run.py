"""Whole runs on a local Ray, with the model that ships with the package."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tables import nested_table, pairs_table, random_groups, write

from reranker_batch import JobConfig, RunReport, run, verify, verify_output
from reranker_batch.errors import CommitError, ConfigError, FingerprintError, InputError, ModelError
from reranker_batch.job.job import open_job
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.storage.files.filesystem import resolve

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

GROUPS = random_groups(24)


def job(folder: Path, **tables: dict[str, Any]) -> JobConfig:
    """A small job on `folder/in` that writes to `folder/out`."""
    values: dict[str, Any] = {
        "input": {"path": str(folder / "in")},
        "model": {"name": "builtin:mini"},
        "output": {"path": str(folder / "out")},
        "runtime": {"unit_pairs": 40},
    }
    for name, more in tables.items():
        values[name] = values.get(name, {}) | more
    return JobConfig.of(values)


def run_here(config: JobConfig) -> RunReport:
    """The job without Ray, with which the run on Ray is compared."""
    return run_job(open_job(config), inline_engine)


def results(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "out" / "scores" / "*.parquet")


def parts(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file that readers see."""
    files = sorted((folder / "out" / "scores").iterdir())
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(nested_table(GROUPS), tmp_path / "in" / "a.parquet", row_group_size=6)
    return tmp_path


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> tuple[Path, RunReport]:
    folder = tmp_path_factory.mktemp("first")
    write(nested_table(GROUPS), folder / "in" / "a.parquet", row_group_size=6)
    return folder, run(job(folder))


@pytest.fixture
def finished(first_run: tuple[Path, RunReport], folder: Path) -> RunReport:
    """A copy of a finished run in `folder`; the copy keeps the times of the files."""
    shutil.rmtree(folder)
    shutil.copytree(first_run[0], folder)
    return first_run[1]


def test_scores_and_ranks_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    demo = pl.read_parquet(resolve("builtin:demo")[1]).head(6)
    (tmp_path / "in").mkdir()
    demo.write_parquet(tmp_path / "in" / "demo.parquet")
    report = run(job(tmp_path, limits={"profile": "none"}, model={"name": "builtin:mini", "dtype": "float32"}))
    assert report.executions == {"packed in float32 on cpu, 4096 tokens a micro-batch, 4 at a time": report.units}
    assert report.replica_time["score"] > 0
    assert sum(report.replica_time.values()) == pytest.approx(1)
    pairs = demo.explode("candidates").unnest("candidates")
    reference = CrossEncoder(resolve("builtin:")[1] + "/mini", device="cpu", model_kwargs={"dtype": "float32"})
    texts = list(pairs.select("query", "text").iter_rows())
    logits = reference.predict(texts, activation_fn=None, convert_to_numpy=True, show_progress_bar=False)
    expected = pairs.with_columns(expected=pl.Series(np.asarray(logits, dtype=np.float32)))
    joined = results(tmp_path).join(expected, on=["query_id", "doc_id"])
    assert len(joined) == report.totals.scored == len(pairs)
    np.testing.assert_allclose(joined["relevance_score"], joined["expected"], atol=1e-5)
    ranks = joined.with_columns(expected_rank=pl.struct(-pl.col("expected"), "index").rank("ordinal").over("query_id"))
    assert ranks["rank"].to_list() == ranks["expected_rank"].to_list()


@pytest.mark.usefixtures("finished")
def test_replicas_budget_unit_size_and_engine_change_nothing(folder: Path) -> None:
    first = results(folder)
    (folder / "out").rename(folder / "earlier")
    qrels = folder / "qrels"
    qrels.write_text(f"{first['query_id'][0]} 0 {first['doc_id'][0]} 1\n")
    compared = {"compare_with": str(folder / "earlier"), "qrels": str(qrels)}
    changes: list[tuple[Callable[[JobConfig], RunReport], dict[str, Any]]] = [
        (run, {"runtime": {"unit_pairs": 7, "min_replicas": 2, "max_replicas": 2}}),
        (run_here, {"runtime": {"unit_pairs": 5_000}, "batching": {"max_batch_tokens": 600}}),
    ]
    for runs, change in changes:
        shutil.rmtree(folder / "out", ignore_errors=True)
        report = runs(job(folder, **change, report=compared, gates={"max_queries_changed": "0%", "min_ndcg_at_10": 1}))
        assert (report.exit_code, [gate.value for gate in report.gates]) == (0, [0, 0, 1])
        again = results(folder)
        same = ["query_id", "doc_id", "index", "rank", "query_tokens", "document_tokens", "truncated"]
        assert again.select(same).equals(first.select(same))
        np.testing.assert_allclose(again["logit"], first["logit"], atol=1e-5)


def test_half_precision_says_how_far_it_is_from_float32(folder: Path, finished: RunReport) -> None:
    """The finished run is in float32, where packing alone is between the two scorings."""
    assert finished.precision is not None
    assert finished.precision.pairs == min(256, finished.totals.scored)
    assert finished.precision.max_logit_difference < 1e-5
    shutil.rmtree(folder / "out")
    rough = run_here(job(folder, model={"name": "builtin:mini", "dtype": "bfloat16", "precision_sample": 30}))
    assert rough.precision is not None
    assert rough.precision.pairs == 30
    assert 1e-4 < rough.precision.mean_logit_difference <= rough.precision.max_logit_difference < 0.5
    written = json.loads((folder / "out" / "run" / "report.json").read_text())
    assert written["precision"] == rough.precision.to_dict()
    manifest = json.loads((folder / "out" / "run" / "manifest.json").read_text())
    assert (manifest["model"]["name"], manifest["model"]["recipe"]) == ("builtin:mini", "cross-encoder")
    assert "model_type='bert'" in manifest["model"]["reason"]


@pytest.mark.usefixtures("finished")
def test_pairs_input_gives_what_nested_input_gives(folder: Path) -> None:
    nested = results(folder)
    shutil.rmtree(folder / "out")
    write(pairs_table(GROUPS), folder / "in" / "a.parquet", row_group_size=25)
    run_here(job(folder, input={"path": str(folder / "in"), "layout": "pairs"}))
    columns = ["query_id", "doc_id", "index", "rank"]
    assert results(folder).select(columns).equals(nested.select(columns))


def test_a_finished_output_is_whole_and_proves_itself(folder: Path, finished: RunReport) -> None:
    assert finished.exit_code == 0
    assert finished.totals.candidates == finished.totals.kept == sum(len(group[2]) for group in GROUPS)
    names = {path.name for path in (folder / "out" / "scores").iterdir()}
    assert names == {"_SUCCESS"} | {f"part-{part.unit_id}.parquet" for part in finished.parts}
    assert sorted(path.name for path in (folder / "out" / "run").iterdir()) == [
        "manifest.json",
        "plan.json",
        "report.html",
        "report.json",
    ]
    found = verify_output(str(folder / "out"))
    assert found.problems == []
    assert (found.parts, found.rows) == (finished.units, finished.totals.kept)


def test_the_same_command_on_a_finished_output_touches_nothing(folder: Path, finished: RunReport) -> None:
    before = parts(folder)
    again = run(job(folder))
    assert again.message.startswith("nothing to do")
    assert again.totals == finished.totals
    assert parts(folder) == before


def test_what_is_missing_or_damaged_is_made_again_and_the_rest_is_left(folder: Path, finished: RunReport) -> None:
    before = parts(folder)
    scores = folder / "out" / "scores"
    missing, damaged = finished.parts[0].unit_id, finished.parts[1].unit_id
    (scores / "_SUCCESS").unlink()
    (scores / f"part-{missing}.parquet").unlink()
    flip_byte(scores / f"part-{damaged}.parquet")
    again = run(job(folder, runtime={"unit_pairs": 9_999}))
    assert (again.units, again.units_skipped) == (finished.units, finished.units - 2)
    after = parts(folder)
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in before.items()
    }
    remade = {f"part-{missing}.parquet", f"part-{damaged}.parquet", "_SUCCESS"}
    assert {name: after[name] for name in after.keys() - remade} == {
        name: before[name] for name in before.keys() - remade
    }


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranking": {"top_n": 3}}, "output.top_n: null -> 3"),
        ({"limits": {"profile": "none"}}, "limits.max_documents: 500 -> null"),
        ({"output": {"layout": "nested"}}, 'output.layout: "pairs" -> "nested"'),
        ({"model": {"dtype": "bfloat16"}}, 'model.dtype: "float32" -> "bfloat16"'),
    ],
)
@pytest.mark.usefixtures("finished")
def test_settings_that_change_the_result_are_refused_on_an_existing_output(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    before = parts(folder)
    with pytest.raises(FingerprintError, match=message):
        run(job(folder, **change))
    assert parts(folder) == before


@pytest.mark.usefixtures("finished")
def test_an_input_that_has_changed_is_refused_by_name(folder: Path) -> None:
    write(nested_table(random_groups(24, seed=1)), folder / "in" / "a.parquet", row_group_size=6)
    write(nested_table(GROUPS), folder / "in" / "b.parquet")
    with pytest.raises(FingerprintError, match=r"(?s)input: a\.parquet has changed.*input: b\.parquet is new"):
        run(job(folder))


def test_a_folder_with_files_of_others_is_refused_and_left_alone(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds files that no run wrote, such as 'thesis.txt'"):
        run(job(folder))
    assert [path.name for path in (folder / "out").iterdir()] == ["thesis.txt"]


def test_dead_letters_are_kept_and_decide_the_exit_code(tmp_path: Path) -> None:
    groups = random_groups(6, max_candidates=5, seed=3)
    table = nested_table(groups)
    lists = [[*candidates, {"doc_id": "null", "text": None}] for candidates in table["candidates"].to_pylist()]
    table = table.set_column(2, "candidates", pa.array(lists, table.schema.field("candidates").type))
    write(table, tmp_path / "in" / "a.parquet")
    report = run(job(tmp_path))
    assert (report.status, report.exit_code) == ("too_many_failed", 3)
    assert report.totals.dead_letters == {"null_document": 6}
    letters = pl.read_parquet(tmp_path / "out" / "dead_letters" / "*.parquet")
    assert letters["reason_code"].to_list() == ["null_document"] * 6
    assert letters["input"].struct.field("candidates").list.len().to_list() == [1] * 6
    assert verify_output(str(tmp_path / "out")).problems == []
    shutil.rmtree(tmp_path / "out")
    assert run_here(job(tmp_path, output={"max_failed": 6})).exit_code == 0


def test_an_input_without_rows_gives_a_complete_output(tmp_path: Path) -> None:
    write(nested_table([]), tmp_path / "in" / "a.parquet")
    report = run(job(tmp_path))
    assert (report.totals.queries, report.exit_code) == (0, 0)
    assert results(tmp_path).schema["relevance_score"] == pl.Float32
    assert (tmp_path / "out" / "scores" / "_SUCCESS").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": {"name": "no/such/folder"}}, ModelError, "no/such/folder"),
        ({"input": {"path": "no/such/input"}}, InputError, "no/such/input"),
        ({"limits": {"max_request_tokens": 100}}, ConfigError, "cannot hold a query and one document"),
        ({"runtime": {"min_replicas": 99}}, ConfigError, "min_replicas=99 cannot be placed"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    folder: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(job(folder, **change))
    assert not (folder / "out").exists()


def test_verify_names_every_contradiction(folder: Path, finished: RunReport) -> None:
    scores = folder / "out" / "scores"
    first, second, third = (scores / f"part-{part.unit_id}.parquet" for part in finished.parts[:3])
    first.unlink()
    flip_byte(second)
    table = pl.read_parquet(third)
    table.with_columns(rank=pl.col("rank") + 1).write_parquet(third)
    (scores / "part-foreign.parquet").write_bytes(b"")
    assert verify(str(folder / "out")) == verify_output(str(folder / "out")), "tasks and threads see the same"
    problems = "\n".join(verify(str(folder / "out")).problems)
    for part in (first, second, third):
        assert part.name in problems
    assert "part-foreign.parquet belongs to no unit" in problems
    assert "the parts add up to" in problems


def test_a_run_that_cannot_write_says_so_and_leaves_no_success(folder: Path) -> None:
    (folder / "out" / "run").mkdir(parents=True)
    (folder / "out" / "run" / "manifest.json").write_text("{broken")
    with pytest.raises(CommitError, match=r"manifest.json cannot be read"):
        run(job(folder))
