"""docs/files.md names the files of an output and all fields in them, and nothing that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from engine import SmallJob
from outputs import finished
from references import SMALL, prepared
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig, accept, plan, redrive, status
from reranker_batch.job.job import open_job
from reranker_batch.job.pace import Pace
from reranker_batch.job.run import run_job
from reranker_batch.job.serial import inline_engine
from reranker_batch.schema import nested_schema, pairs_schema
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.lock import hold_lock

ABOUT_MOVEMENT = ("compared_with", "parts_digest")
PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")


def documented(heading: str, column: str = "field") -> list[str]:
    """First cells of the table below a heading whose first column has this name."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    text = next(part for part in section if part.replace("\\", "").startswith(heading + "\n"))
    table = text[text.index(f"| {column} |") :].split("\n\n")[0]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, bool]]:
    """Names of all values in a JSON document, each with whether it is empty, so that nothing below it can be seen."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            step = key.replace(".", "_")
            yield from leaves(inner, f"{name}.{step}" if name else step)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for inner in value:
            yield from leaves(inner, f"{name}[]")
    else:
        yield name, value in (None, {}, [])


def is_at(pattern: str, name: str) -> bool:
    """Whether a row of the page describes the value: `*` is any one step of its name, `**` all that follow."""
    wanted, steps = pattern.split("."), name.split(".")
    if wanted[-1] == "**":
        wanted, steps = wanted[:-1], steps[: len(wanted) - 1]
    return len(wanted) == len(steps) and all(want in ("*", step) for want, step in zip(wanted, steps, strict=True))


def is_below(pattern: str, name: str) -> bool:
    """Whether a row of the page describes a value inside of the one with this name."""
    parents = pattern.split(".")[:-1]
    return any(is_at(".".join(parents[:length]).removesuffix("[]"), name) for length in range(1, len(parents) + 1))


def check(patterns: list[str], *documents: Any) -> None:
    """Every value of the documents has a row in the page, and every row is a value of one of them."""
    values = {leaf for document in documents for leaf in leaves(document)}
    unknown = [
        name
        for name, is_empty in values
        if not any(is_at(pattern, name) or (is_empty and is_below(pattern, name)) for pattern in patterns)
    ]
    stale = [
        pattern
        for pattern in patterns
        if not any(is_at(pattern, name) or (is_empty and is_below(pattern, name)) for name, is_empty in values)
    ]
    assert (sorted(unknown), stale) == ([], [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@lru_cache(maxsize=1)
def outputs(folder: Path) -> tuple[Any, Any]:
    """A complete output, and one that was gated and has been accepted."""
    complete, accepted = finished(folder / "complete"), finished(folder / "accepted", gated=True)
    return complete, accepted


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def records(folder: Path) -> Path:
    """The records of a run with a real model, since the oracle of the other outputs has no files and no recipe."""
    source, output = write(nested_table(random_groups(3)), folder / "in.parquet"), folder / "scored"
    config = {"input": {"path": str(source)}, "model": {"name": "builtin:mini"}, "output": {"path": str(output)}}
    run_job(open_job(JobConfig.of(config)), inline_engine)
    return output / "run"


@lru_cache(maxsize=1)
def compared(folder: Path) -> Path:
    """The records of a run that was compared with an earlier output and with judgments."""
    complete, _ = outputs(folder)
    earlier, qrels = finished(folder / "earlier"), folder / "qrels"
    qrels.write_text("".join(f"{row['query_id']} 0 {row['doc_id']} 1\n" for row in complete.rows()))
    report = {"compare_with": str(earlier.path), "qrels": str(qrels)}
    gates = {"max_queries_changed": "0%", "min_overlap_at_10": 1, "min_ndcg_at_10": 0, "max_truncated": "0%"}
    replace(complete.job(), output=str(folder / "compared"), top_n=2, report=report, gates=gates).run()
    return folder / "compared" / "run"


@pytest.mark.parametrize("name", ["manifest", "plan", "report"])
def test_the_records_of_a_run(folder: Path, name: str) -> None:
    runs = [records(folder), outputs(folder)[0].run, compared(folder)] if name == "report" else [records(folder)]
    check(documented(f"run/{name}.json"), *(read(run / f"{name}.json") for run in runs))


def test_movement_and_changes_of_a_metric(folder: Path) -> None:
    report = read(compared(folder) / "report.json")
    movement, metrics = documented("run/report.json", "movement field"), report["metrics"]
    assert set(movement) == report["movement_first_stage"].keys() == report["movement"].keys() - {*ABOUT_MOVEMENT}
    assert documented("run/report.json", "change field") == list(metrics["since_earlier"]["ndcg_at_10"])
    assert metrics["since_first_stage"] is None, "the output does not keep all candidates"


def test_the_gate(folder: Path) -> None:
    _, gated = outputs(folder)
    closed = read(gated.run / "gated.json")
    accept(str(gated.path), by="somebody")
    check(documented("run/gated.json"), closed, read(gated.run / "gated.json"))


def test_the_record_of_reuse(tmp_path: Path) -> None:
    write(nested_table(random_groups(6)), tmp_path / "in" / "a.parquet")
    write(nested_table(random_groups(7)), tmp_path / "next" / "a.parquet")
    SmallJob(str(tmp_path / "in"), str(tmp_path / "last")).run()
    SmallJob(str(tmp_path / "next"), str(tmp_path / "out"), reuse={"from": str(tmp_path / "last")}).run()
    record, report = (read(tmp_path / "out" / "run" / name) for name in ("reuse.json", "report.json"))
    assert (report["reuse"], report["reuse_check"]) == (record, record["check"])
    check(documented("run/reuse.json"), record)


def test_the_record_of_a_conversion(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"query": "q", "candidates": ["x"]}\n', encoding="utf-8")
    SmallJob(str(tmp_path / "in.jsonl"), str(tmp_path / "out")).run()
    check(documented("run/input/_converted.json"), read(tmp_path / "out" / "run" / "input" / "_converted.json"))


def test_the_record_of_a_preparation(tmp_path: Path) -> None:
    goal = tmp_path / "out"
    prepared(replace(SMALL, corpus={"d1": "one"}).write(tmp_path), goal)
    check(documented("run/input/_prepared.json"), read(goal / "_prepared.json"))
    schema = pq.read_schema(goal / "_missing.parquet")
    assert documented("_missing.parquet", "missing column") == schema.names


def test_the_lock(tmp_path: Path) -> None:
    with hold_lock(Folder.at(str(tmp_path))):
        (lock,) = (tmp_path / "run").glob("lock.*")
        check(documented("run/lock.<number>"), read(lock))


def test_the_record_in_the_footer_of_a_part(folder: Path) -> None:
    complete, _ = outputs(folder)
    footers = [pq.read_metadata(part).metadata[b"reranker_batch"] for part in complete.parts()]
    check(documented("scores/part-<unit_id>.parquet", "footer"), *map(json.loads, footers))


def test_the_columns_of_a_part(folder: Path) -> None:
    complete, _ = outputs(folder)
    heading = "scores/part-<unit_id>.parquet"
    names = documented(heading, "pairs column")
    assert [*pq.read_schema(complete.parts()[0]).names, "document"] == names
    assert pairs_schema([], return_documents=True).names == names
    chunks = documented(heading, "chunk column")
    assert pairs_schema([], return_documents=True, has_chunks=True).names == [*names[:-1], *chunks, names[-1]]
    nested = nested_schema([], [], return_documents=True)
    assert documented(heading, "nested column") == nested.names
    assert [field.name for field in nested.field("results").type.value_type] == names[1:]


def test_the_columns_of_dead_letters_and_of_their_places(folder: Path) -> None:
    complete, _ = outputs(folder)
    heading = "dead_letters/part-<unit_id>.parquet"
    assert documented(heading, "dead letter column") == pq.read_schema(complete.parts("dead_letters")[0]).names
    redrive(str(complete.path), str(folder / "redriven"))
    assert documented("_places.parquet", "places column") == pq.read_schema(folder / "redriven/_places.parquet").names


def test_the_columns_and_the_footer_of_a_memo(folder: Path) -> None:
    complete, _ = outputs(folder)
    heading, memo = "memo/part-<unit_id>.parquet", complete.parts("memo")[0]
    assert documented(heading, "memo column") == pq.read_schema(memo).names
    check(documented(heading, "memo footer"), json.loads(pq.read_metadata(memo).metadata[b"reranker_batch_memo"]))


def test_the_json_of_plan(tmp_path: Path) -> None:
    write(nested_table(random_groups(3)), tmp_path / "in.parquet")
    config = {"input": {"path": str(tmp_path / "in.parquet")}, "output": {"path": str(tmp_path / "out")}}
    estimate = plan(JobConfig.of(config | {"model": {"name": "builtin:mini"}}), pace=Pace(10.0, "a guess"))
    check(documented("What commands print as JSON", "plan field"), json.loads(json.dumps(estimate.to_dict())))


def test_the_json_of_status(folder: Path, tmp_path: Path) -> None:
    _, gated = outputs(folder)
    states = [status(str(gated.path)).to_dict(), status(str(tmp_path)).to_dict()]
    check(documented("What commands print as JSON", "status field"), *states)


def test_every_reason_code(folder: Path) -> None:
    """Those of the code: named where a dead letter is made."""
    package = Path(__file__).parents[1] / "reranker_batch"
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    codes = documented("dead_letters/part-<unit_id>.parquet", "reason code")
    assert [code for code in codes if f'"{code}"' not in source] == []
    named = set(re.findall(r'Cause\.\w+: \("(\w+)"|reason_code="(\w+)"', source))
    assert {first or second for first, second in named} <= set(codes)


def test_every_file(folder: Path) -> None:
    complete, gated = outputs(folder)
    tree = PAGE.split("```")[1]
    for output in (complete, gated):
        for path in output.path.rglob("*"):
            name = "part-<unit_id>.parquet" if path.name.startswith("part-") else path.name
            assert re.search(rf"\b{re.escape(name)}", tree), f"{path.relative_to(output.path)} is not in docs/files.md"
