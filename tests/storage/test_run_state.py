"""What stands in `run/` is read with care: it may be cut off, emptied, swapped or made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from engine import SmallJob, kept_rows, right_rows, run_in_a_process
from tables import nested_table, random_groups, write

from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.errors import CommitError, ConfigError, RerankerBatchError
from reranker_batch.storage.files.filesystem import Folder, is_inside
from reranker_batch.storage.output.parts import publish_part, read_part, read_table
from reranker_batch.storage.output.run_state import MANIFEST, PLAN, REPORT, RunState
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output

GROUPS = random_groups(9, max_candidates=5)


@pytest.fixture
def job(tmp_path: Path) -> SmallJob:
    write(nested_table(GROUPS), tmp_path / "in" / "a.parquet", row_group_size=2)
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), unit_pairs=8)
    job.run()
    return job


def on_units(change: Callable[[list[Any]], object], plan: Any) -> None:
    change(plan["units"])


def edit(job: SmallJob, name: str, change: Callable[[Any], Any]) -> None:
    path = Path(job.output) / "run" / name
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", [MANIFEST, PLAN])
def test_a_manifest_or_plan_that_is_not_whole_is_named_with_what_to_do(
    job: SmallJob, name: str, content: bytes
) -> None:
    (Path(job.output) / "run" / name).write_bytes(content)
    with pytest.raises(CommitError, match=rf"run/{name} .*Put the original back, or use another output.path"):
        job.run()
    with pytest.raises(CommitError, match=name):
        verify_output(job.output)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_report_that_is_not_whole_stops_no_resume_and_is_written_again(job: SmallJob, content: bytes) -> None:
    (Path(job.output) / "run" / REPORT).write_bytes(content)
    with pytest.raises(CommitError, match=REPORT):
        verify_output(job.output)
    (Path(job.output) / "scores" / "_SUCCESS").unlink()
    job.run()
    assert verify_output(job.output).problems == []


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../etc/passwd"},
        {"file": "/etc/passwd"},
        {"file": "a/../../b.parquet"},
        {"file": "s3://bucket/x.parquet"},
        {"file": ""},
        {"file": 7},
        {"unit_id": "../../../x"},
        {"unit_id": "00000-0000000000/../x"},
        {"row_start": -1},
        {"row_stop": "9"},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_plan_that_leads_elsewhere_is_rejected(job: SmallJob, change: dict[str, Any]) -> None:
    edit(job, PLAN, lambda plan: plan["units"][0].update(change))
    with pytest.raises(CommitError, match=r"run/plan.json holds a unit that no run wrote"):
        job.run()


def test_a_manifest_whose_settings_were_edited_is_rejected(job: SmallJob) -> None:
    edit(job, MANIFEST, lambda manifest: manifest["settings"]["output"].update(top_n=99))
    with pytest.raises(CommitError, match=r"manifest.json has been changed"):
        job.run()


@pytest.mark.parametrize("name", ["fingerprint", "scoring_fingerprint"])
def test_a_manifest_with_a_fingerprint_of_other_settings_is_rejected(job: SmallJob, name: str) -> None:
    edit(job, MANIFEST, lambda manifest: manifest.update({name: "0" * 64}))
    with pytest.raises(CommitError, match=r"manifest.json has been changed"):
        job.run()


@pytest.mark.parametrize(
    "change", [{"scoring": None}, {"limits": 3}, {"output": {"top_n": "3"}}, {"output": []}], ids=str
)
def test_settings_that_no_run_recorded_are_one_message_though_their_hash_fits(
    job: SmallJob, change: dict[str, Any]
) -> None:
    edit(job, MANIFEST, lambda manifest: manifest["settings"].update(change))
    edit(job, MANIFEST, lambda manifest: manifest.update(fingerprint=fingerprint(manifest["settings"])))
    with pytest.raises(CommitError, match=r"run/manifest.json is not a record of this program: settings"):
        job.run()


def test_a_part_of_another_unit_or_of_other_settings_is_not_taken_for_done(job: SmallJob, tmp_path: Path) -> None:
    scores = Path(job.output) / "scores"
    first, second, *_ = sorted(scores.glob("part-*"))
    whole = second.read_bytes()
    shutil.copy(first, second)
    unit_id = second.stem.removeprefix("part-")
    with pytest.raises(CommitError, match="is the part of another unit"):
        read_part(Folder(job.output), unit_id)
    job.run()
    assert second.read_bytes() == whole
    assert kept_rows(Path(job.output)) == right_rows(GROUPS)
    with pytest.raises(CommitError, match="was made by other settings"):
        read_part(Folder(job.output), unit_id, fingerprint="another")


def test_a_report_that_names_foreign_parts_leads_nowhere(job: SmallJob, tmp_path: Path) -> None:
    edit(job, REPORT, lambda report: report["parts"].append({**report["parts"][0], "unit_id": "../../../etc/x"}))
    assert any("no unit of the plan" in problem for problem in verify_output(job.output).problems)
    edit(job, REPORT, lambda report: report.update(parts=[{"unit_id": 3}, "x"]))
    with pytest.raises(CommitError, match="report.json"):
        verify_output(job.output)


def test_dead_letters_that_no_part_knows_of_are_found(job: SmallJob) -> None:
    (Path(job.output) / "dead_letters" / "part-00000-0000000000.parquet").write_bytes(b"x")
    assert any("dead_letters/part-00000" in problem for problem in verify_output(job.output).problems)


@pytest.mark.parametrize("name", ["thesis.txt", "run/plan.json", "scores/part-x.parquet"])
def test_files_of_others_are_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(ConfigError, match="holds files that no run wrote"):
        RunState(Folder.at(str(tmp_path / "out"))).start()
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("path", "is_safe"),
    [("a.parquet", True), ("a b/x=1/..b.parquet", True), ("..", False), ("a//b", False), ("./a", False)],
)
def test_only_paths_that_stay_inside_are_taken(path: str, is_safe: bool) -> None:
    assert is_inside(path) == is_safe


def span(unit: dict[str, Any]) -> dict[str, Any]:
    [only] = unit["spans"]
    assert isinstance(only, dict)
    return only


def test_rows_that_the_plan_leaves_out_or_has_twice_are_refused(job: SmallJob) -> None:
    """Without this they would be lost or scored twice, without an error."""
    changes: list[tuple[Callable[[list[Any]], object], str]] = [
        (lambda units: units.pop(1), "belong to no unit"),
        (lambda units: span(units[0]).update(row_stop=span(units[0])["row_stop"] - 1), "belong to no unit"),
        (lambda units: span(units[1]).update(row_start=span(units[1])["row_start"] - 1), "belong to two units"),
        (lambda units: span(units[-1]).update(row_stop=span(units[-1])["row_stop"] + 9), "but its units go to row"),
        (lambda units: units.append(units[0]), "belong to two units|not in the order"),
        (lambda units: units.reverse(), "not in the order of the input"),
        (lambda units: units[0].update(num_pairs=1), "not those of the digest"),
        (lambda units: span(units[0]).update(file="b.parquet"), "no file of the input"),
        (lambda units: span(units[0])["identity"].update(size_bytes=1), "another a.parquet than the one on record"),
    ]
    for change, message in changes:
        path = Path(job.output) / "run" / PLAN
        whole = path.read_bytes()
        edit(job, PLAN, partial(on_units, change))
        with pytest.raises(CommitError, match=rf"run/plan.json is not the plan of this run.*({message})"):
            job.run()
        assert not verify_output(job.output).is_sound
        path.write_bytes(whole)
    assert verify_output(job.output).is_sound


def test_a_plan_that_is_gone_comes_back_only_as_it_was(job: SmallJob) -> None:
    path, right = Path(job.output) / "run" / PLAN, kept_rows(Path(job.output))
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(CommitError, match=r"run/plan.json is missing, and the input is now cut into other units"):
        replace(job, unit_pairs=1_000).run()
    job.run()
    assert path.read_bytes() == whole
    assert verify_output(job.output).is_sound
    assert kept_rows(Path(job.output)) == right


def test_a_run_that_ended_between_manifest_and_plan_may_be_cut_otherwise(job: SmallJob) -> None:
    other = replace(job, output=f"{job.output}-again")
    assert run_in_a_process(other, "manifest_written:1") != 0
    replace(other, unit_pairs=1_000).run()
    assert verify_output(other.output).is_sound
    assert kept_rows(Path(other.output)) == right_rows(GROUPS)


def test_a_part_with_other_scores_than_the_report_lists_is_computed_again(job: SmallJob) -> None:
    """Such as one that was edited in place: it is whole by itself."""
    output, unit_id = Folder(job.output), "00000-0000000000"
    path = Path(job.output) / "scores" / f"part-{unit_id}.parquet"
    whole = path.read_bytes()
    table, record = read_table(output, "scores", unit_id), read_part(output, unit_id).record
    (Path(job.output) / "run" / "staging").mkdir()
    publish_part(output, "scores", table.take([*range(len(table))][::-1]), table.schema, record)
    job.run()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["scores", "dead_letters", "run"])
def test_a_folder_of_the_output_that_is_a_file_is_one_message(job: SmallJob, name: str) -> None:
    shutil.rmtree(Path(job.output) / name)
    (Path(job.output) / name).write_text("mine")
    for call in (job.run, lambda: verify_output(job.output)):
        with pytest.raises(RerankerBatchError, match=job.output):
            call()
    with suppress(RerankerBatchError):
        output_status(job.output)
    assert (Path(job.output) / name).read_text() == "mine"
