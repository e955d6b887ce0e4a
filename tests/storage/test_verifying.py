"""What verify finds. Hashes and totals are made to fit again, so that only the rule itself can find each change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import NanScorer
from outputs import Output, finished

from reranker_batch.core.counts import Counts
from reranker_batch.core.report import RunReport
from reranker_batch.core.units import WorkUnit, units_digest
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.output.parts import publish_part, read_part, read_table
from reranker_batch.storage.output.run_state import MANIFEST, PLAN, REPORT
from reranker_batch.storage.output.verifying import verify_output


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return finished(tmp_path)


def problems(output: Output) -> list[str]:
    return verify_output(str(output.path)).problems


def report_of(output: Output) -> RunReport:
    report = output.state.report()
    assert report is not None
    return report


def rewrite(
    output: Output,
    change: Callable[[pa.Table], pa.Table] = lambda table: table,
    counts: Mapping[str, Any] | None = None,
) -> None:
    """Publish a changed part of the first unit, and a report that knows of it."""
    unit_id = output.parts()[0].stem.removeprefix("part-")
    folder = output.state.output
    (output.run / "staging").mkdir()
    table, record = change(read_table(folder, "scores", unit_id)), read_part(folder, unit_id).record
    record = replace(record, counts=replace(record.counts, **(counts or {})))
    entry = publish_part(folder, "scores", table, table.schema, record).entry()
    output.state.close()
    report = report_of(output)
    parts = [entry if part.unit_id == unit_id else part for part in report.parts]
    listed = replace(report, parts=parts, totals=sum((part.counts for part in parts), Counts()))
    output.state.write(REPORT, listed.to_dict())
    output.state.close()


def with_column(name: str, change: Callable[[Any], Any], kind: pa.DataType | None = None) -> Callable[..., pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        at, field = table.schema.get_field_index(name), table.schema.field(name)
        values = change(table[name].to_numpy().copy())
        return table.set_column(at, field.name, pa.array(values, kind or field.type, from_pandas=True))

    return changed


def set_at(place: int, value: Any) -> Callable[[Any], Any]:
    def changed(values: Any) -> Any:
        return np.array([value if at == place else old for at, old in enumerate(values)], dtype=object)

    return changed


def swapped(table: pa.Table) -> pa.Table:
    """The two best of a query change places, their ranks stay."""
    second = table["rank"].to_pylist().index(2)
    order = [*range(len(table))]
    order[second - 1], order[second] = second, second - 1
    return table.take(order).set_column(table.schema.get_field_index("rank"), "rank", table["rank"])


def test_an_undisturbed_output_is_sound(output: Output) -> None:
    verified = verify_output(str(output.path))
    assert verified.is_sound
    assert verified.exit_code == 0
    assert (verified.parts, verified.rows) == (len(output.parts()), len(output.rows()))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            with_column("relevance_score", lambda score: score * np.float32(0.5)),
            "what the activation makes of the logit",
        ),
        (with_column("relevance_score", lambda score: score * np.float32(0.999999)), "what the activation makes of"),
        (with_column("logit", lambda logit: logit + np.float32(1)), "what the activation makes of the logit"),
        (with_column("logit", set_at(0, np.nan)), "not finite"),
        (with_column("logit", set_at(0, None)), "not finite"),
        (with_column("relevance_score", set_at(0, 1.5)), "not within 0..1"),
        (with_column("rank", set_at(0, 2)), "ranks of a query are not 1..n"),
        (with_column("rank", set_at(0, None)), "ranks of a query are not 1..n"),
        (with_column("rank", set_at(2, 4)), "rank 4 is beyond top_n=3"),
        (with_column("index", set_at(1, -1)), "has no place in its query"),
        (with_column("index", lambda index: index * 0), "stands twice"),
        (with_column("query_id", set_at(1, "another")), "rows of a query do not stand together"),
        (swapped, "not ordered by score"),
        (lambda table: table.slice(1), "candidates, its record says"),
        (lambda table: table.drop_columns("relevance_score"), "its column relevance_score is null, not float"),
        (with_column("relevance_score", lambda score: score, pa.float64()), "its column relevance_score is double"),
        (with_column("rank", lambda rank: rank.astype(str), pa.string()), "its column rank is string, not int32"),
        (lambda table: table.append_column("logit", table["logit"]), "a column stands twice"),
    ],
)
def test_rows_that_no_run_would_have_written_are_found(
    output: Output, change: Callable[[pa.Table], pa.Table], problem: str
) -> None:
    rewrite(output, change)
    assert any(problem in found for found in problems(output)), problems(output)


@pytest.mark.parametrize(
    "change",
    [
        with_column("row", set_at(1, 0)),
        with_column("row", lambda row: row[::-1]),
        with_column("row", lambda row: row + 1000),
        with_column("row", set_at(0, -1)),
        with_column("row", set_at(0, None)),
        with_column("file", set_at(0, "other.parquet")),
        with_column("file", set_at(0, None)),
    ],
)
def test_a_query_that_stands_at_another_place_is_found(tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    output = finished(tmp_path)
    nested = replace(output, name="nested")
    replace(output.job(), output=str(nested.path), output_layout="nested").run(NanScorer())
    assert not problems(nested)
    rewrite(nested, change)
    assert any("file and row of its queries are not places" in found for found in problems(nested))


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"candidates": 99}, "scored and dead-lettered candidates are not all candidates"),
        ({"queries": 99}, "its record counts 99 rows of the input, the plan"),
        ({"kept": 99}, "candidates, its record says 99"),
        ({"dead_letters": {"null_query": 99}}, "contradicts itself about its dead letters"),
    ],
    ids=str,
)
def test_counts_of_a_part_that_cannot_be_are_found(output: Output, counts: dict[str, Any], problem: str) -> None:
    rewrite(output, counts=counts)
    assert any(problem in found for found in problems(output)), problems(output)


@pytest.mark.parametrize("counts", [{"queries": -1}, {"surprise": 1}, {"scored": "9"}, {"dead_letters": 3}], ids=str)
def test_a_part_with_counts_that_no_run_writes_is_not_of_this_program(output: Output, counts: dict[str, Any]) -> None:
    path = output.parts()[0]
    table = pq.read_table(path)
    record = json.loads(table.schema.metadata[b"reranker_batch"])
    record["counts"] |= counts
    pq.write_table(table.replace_schema_metadata({b"reranker_batch": json.dumps(record).encode()}), path)
    assert any(str(path) in found and "carries no record of this program" in found for found in problems(output))


def edit(output: Output, name: str, change: Callable[[Any], Any]) -> None:
    path = output.run / name
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": "failed", "exit_code": 1}, "the status is failed: the run is not complete"),
        ({"status": "interrupted", "exit_code": 130}, "the status is interrupted: the run is not complete"),
        ({"status": "too_many_failed", "exit_code": 3}, "the report 3"),
        ({"missing": ["00000-0000000000"]}, "1 units are missing"),
        ({"units": 1}, "units are published, the plan has"),
        ({"units_published": 9}, "units are published, the plan has"),
        ({"parts": []}, "it does not list unit 00000-0000000000"),
        ({"skipped_files": {"c.parquet": "too short"}}, "its skipped files are not those of the manifest"),
        ({"truncation": {"query": 1, "document": 0, "pair": 0}}, "they are not what the parts add up to"),
        ({"histograms": {}}, "they are not what the parts add up to"),
        ({"dead_letter_examples": []}, "they are not those of the parts"),
    ],
    ids=str,
)
def test_a_report_that_contradicts_the_output_is_found(output: Output, change: dict[str, Any], problem: str) -> None:
    edit(output, REPORT, lambda report: report.update(change))
    assert any(problem in found for found in problems(output)), problems(output)


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 3},
        {"exit_code": None},
        {"status": "fine"},
        {"status": None},
        {"totals": []},
        {"totals": {"queries": "9"}},
        {"parts": {}},
        {"parts": [{"unit_id": 3}]},
        {"units": 4.0},
        {"units_skipped": 99},
        {"units_skipped": -1},
        {"units": True},
        {"wall_s": "long"},
        {"finished_at": "yesterday"},
        {"finished_at": "2026-11-25T06:00:00+01:00"},
    ],
    ids=str,
)
def test_a_report_of_other_types_is_one_error(output: Output, change: dict[str, Any]) -> None:
    edit(output, REPORT, lambda report: report.update(change))
    with pytest.raises(CommitError, match=r"run/report.json .*The `run` command of this job writes it again"):
        verify_output(str(output.path))


def test_totals_that_do_not_add_up_and_parts_that_stand_twice_are_found(output: Output) -> None:
    edit(output, REPORT, lambda report: report["totals"].update(scored=0))
    edit(output, REPORT, lambda report: report["parts"].append(report["parts"][0]))
    found = problems(output)
    assert any(problem.startswith("scored: the parts add up to") for problem in found)
    assert any("twice" in problem for problem in found)


def without(output: Output, unit_id: str) -> None:
    """Take a unit out of every record and delete its part, with hashes and totals that fit again."""
    report = report_of(output)
    parts = [part for part in report.parts if part.unit_id != unit_id]
    totals = sum((part.counts for part in parts), Counts())
    number = len(parts)
    report = replace(report, parts=parts, totals=totals, units=number, units_published=number, units_skipped=0)
    (output.path / "scores" / f"part-{unit_id}.parquet").unlink()
    (output.path / "dead_letters" / f"part-{unit_id}.parquet").unlink(missing_ok=True)
    output.state.write(REPORT, report.to_dict())
    output.state.close()
    edit(output, PLAN, lambda plan: plan.update(units=[u for u in plan["units"] if u["unit_id"] != unit_id]))
    units = [WorkUnit.from_dict(unit) for unit in json.loads((output.run / PLAN).read_text())["units"]]
    edit(output, MANIFEST, lambda manifest: manifest.update(units_digest=units_digest(units)))


def test_a_unit_that_was_removed_everywhere_is_found(output: Output) -> None:
    unit = (output.state.recorded_units() or [])[1]
    without(output, unit.unit_id)
    (output.path / "memo" / f"part-{unit.unit_id}.parquet").unlink()
    [span] = unit.spans
    assert problems(output) == [
        f"run/plan.json: Rows {span.row_start} to {span.row_stop - 1} of a.parquet belong to no unit.",
        "run/report.json: movement and metrics are not those that were computed from the parts that it lists.",
        "histograms and truncation: they are not what the parts add up to",
        "dead_letter_examples: they are not those of the parts",
    ]
    with pytest.raises(CommitError, match=r"plan.json is not the plan of this run. Rows"):
        output.resume()


def test_another_plan_of_the_same_rows_is_found(output: Output) -> None:
    """Such as one of another run on the same input, cut otherwise."""
    units = output.state.recorded_units() or []
    [first], [second] = units[0].spans, units[1].spans
    span = replace(first, row_stop=second.row_stop)
    joined = replace(units[0], spans=(span,), num_pairs=units[0].num_pairs + units[1].num_pairs)
    edit(output, PLAN, lambda plan: plan.update(units=[asdict(unit) for unit in [joined, *units[2:]]]))
    assert any("not those of the digest" in problem for problem in problems(output))
    with pytest.raises(CommitError, match=r"not the plan of this run. Its units are not those of the digest"):
        output.resume()


@pytest.mark.parametrize("name", ["num_rows", "size_bytes", "modified_ns", "footer_digest"])
def test_a_file_of_the_input_that_was_changed_in_the_manifest_is_found(output: Output, name: str) -> None:
    other = "0" * 64 if name == "footer_digest" else 7
    edit(output, MANIFEST, lambda manifest: manifest["input"]["files"]["a.parquet"].update({name: other}))
    assert any("a.parquet" in problem for problem in problems(output))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["config"]["input"]["columns"].update(document="title"),
        lambda manifest: manifest["config"]["input"].update(layout="pairs"),
        lambda manifest: manifest["config"].pop("input"),
        lambda manifest: manifest.update(units_digest=None),
        lambda manifest: manifest.update(input=[]),
        lambda manifest: manifest.pop("units_digest"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_one_error(output: Output, change: Callable[[Any], Any]) -> None:
    edit(output, MANIFEST, change)
    with pytest.raises(CommitError, match=r"run/manifest.json .*Put the original back"):
        verify_output(str(output.path))


@pytest.mark.parametrize(
    "content",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("{", '{"units": [], "units": [],', 1).encode(),
        lambda text: text.replace(": 0,", ": NaN,", 1).encode(),
        lambda text: text.replace(": 0,", ": 1e999,", 1).encode(),
        lambda text: text.replace(": 0,", ": 1" + "0" * 40 + ",", 1).encode(),
        lambda text: b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("name", [PLAN, REPORT])
def test_json_that_this_program_does_not_write_is_one_error(
    output: Output, name: str, content: Callable[[str], bytes]
) -> None:
    path = output.run / name
    path.write_bytes(content(path.read_text()))
    with pytest.raises(CommitError, match=rf"run/{name} cannot be read"):
        verify_output(str(output.path))


def letters_of(output: Output) -> Path:
    return output.parts("dead_letters")[0]


def in_place_of_a_file(path: Path) -> None:
    path.unlink()
    path.mkdir()


def row_less(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (lambda path: path.unlink(), "is missing"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged"),
    "a row less": (row_less, "has "),
    "foreign": (lambda path: pq.write_table(pa.table({"a": [1]}), path), "carries no record of this program"),
    "written again": (lambda path: pq.write_table(pq.read_table(path), path), "is not the file that"),
    "a folder": (in_place_of_a_file, "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_dead_letters_are_checked_and_repaired_like_parts(output: Output, damage: str) -> None:
    right, letters = output.rows(), letters_of(output).read_bytes()
    change, problem = DAMAGES[damage]
    path = letters_of(output)
    change(path)
    found = problems(output)
    assert any(f"dead_letters/{path.name} {problem}" in name for name in found), found
    if damage == "a folder":
        return
    output.resume()
    assert problems(output) == []
    assert letters_of(output).read_bytes() == letters
    assert output.rows() == right


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "a folder"])
def test_parts_are_checked_and_repaired(output: Output, damage: str) -> None:
    right, part = output.rows(), output.parts()[0]
    content = part.read_bytes()
    change, problem = DAMAGES[damage]
    change(part)
    assert any(problem in name for name in problems(output)), problems(output)
    output.resume()
    assert problems(output) == []
    assert part.read_bytes() == content
    assert output.rows() == right


def test_a_part_with_a_row_less_is_found_without_any_report(output: Output) -> None:
    right = output.rows()
    (output.run / REPORT).unlink()
    row_less(output.parts()[0])
    output.resume()
    assert output.rows() == right


def test_dead_letters_that_no_part_knows_of_are_repaired(output: Output) -> None:
    letters = letters_of(output)
    free = {part.name for part in output.parts()} - {part.name for part in output.parts("dead_letters")}
    stray = output.path / "dead_letters" / min(free)
    stray.write_bytes(letters.read_bytes())
    assert any("records no dead letters" in problem for problem in problems(output))
    output.resume()
    assert problems(output) == []
    assert not stray.exists()


def test_files_that_belong_to_no_unit_are_named(output: Output) -> None:
    for folder in ("scores", "dead_letters"):
        (output.path / folder / "notes.txt").write_text("mine")
    assert [problem for problem in problems(output) if "belongs to no unit" in problem] == [
        "dead_letters/notes.txt belongs to no unit of the plan.",
        "scores/notes.txt belongs to no unit of the plan.",
    ]
    with pytest.raises(CommitError, match="notes.txt belongs to no unit of this run. Move it away"):
        output.resume()
    assert (output.path / "scores" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["absent", "in/a.parquet"])
def test_a_place_without_a_run_is_refused(output: Output, place: str) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        verify_output(str(output.folder / place))


def test_no_marker_and_a_marker_in_spite_of_the_gate_are_found(output: Output, tmp_path: Path) -> None:
    (output.path / "scores" / "_SUCCESS").unlink()
    assert problems(output) == ["scores/_SUCCESS is not there: the run is not complete."]
    gated = finished(tmp_path / "second", gated=True)
    assert problems(gated) == []
    (gated.path / "scores" / "_SUCCESS").touch()
    assert problems(gated) == [
        "scores/_SUCCESS is there, although run/gated.json says that nobody has accepted the output."
    ]
    (gated.run / "gated.json").unlink()
    assert any("exit code 0 (0: it is not there), the report 3" in problem for problem in problems(gated))
