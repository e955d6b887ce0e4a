"""Old outputs go; what is needed, unfinished or not ours stays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from engine import forks
from hypothesis import given, settings
from hypothesis import strategies as st
from nights import change_report, night
from outputs import Output, finished
from typer.testing import CliRunner

from reranker_batch.cli import app
from reranker_batch.core.reuse import ReuseRecord
from reranker_batch.errors import ConfigError
from reranker_batch.storage.output import crash_points
from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.cleaning import Cleaned, clean_outputs
from reranker_batch.storage.output.lock import hold_lock
from reranker_batch.storage.output.reuse_source import write_record
from reranker_batch.storage.output.run_state import DELETING, MANIFEST, REPORT
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output

Change = Callable[[Output], object]


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    """Four complete outputs, the oldest is `a`."""
    folder = tmp_path / "nights"
    for day, name in enumerate("abcd"):
        night(folder, name, day=day)
    return folder


def at(folder: Path, name: str) -> Output:
    return Output(folder / name, name="")


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def clean(folder: Path, keep: int = 2, **options: Any) -> Cleaned:
    return clean_outputs(str(folder), keep=keep, **options)


def why(cleaned: Cleaned, folder: Path, name: str) -> str:
    return (cleaned.kept | cleaned.refused)[str(folder / name)]


def test_the_oldest_go_and_the_others_stay_as_they_are(nights: Path) -> None:
    cleaned = clean(nights)
    assert cleaned.deleted == [str(nights / "a"), str(nights / "b")]
    assert cleaned.kept == dict.fromkeys((f"{nights}/c", f"{nights}/d"), "one of the 2 newest complete outputs")
    assert there(nights) == ["c", "d"]
    assert verify_output(str(nights / "c")).is_sound
    assert clean(nights).deleted == []
    assert clean(nights, keep=9).deleted == []


def test_a_dry_run_says_the_same_and_deletes_nothing(nights: Path) -> None:
    (nights / "a" / "notes.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in nights.rglob("*")}
    said = clean(nights, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in nights.rglob("*")} == before
    assert said == clean(nights)


@pytest.mark.parametrize("keep", [0, -1])
def test_one_complete_output_always_stays(nights: Path, keep: int) -> None:
    with pytest.raises(ConfigError, match="at least one complete output stays"):
        clean(nights, keep=keep)
    assert len(there(nights)) == 4
    clean(nights, keep=1)
    assert there(nights) == ["d"]


FOREIGN = ["notes.txt", "scores/notes.txt", "scores/part-00099-0000000000.parquet", "run/notes.json", "more/x", ".x"]


@pytest.mark.parametrize("name", FOREIGN)
def test_an_output_with_files_of_others_is_not_touched_and_they_are_named(nights: Path, name: str) -> None:
    file = nights / "a" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    before = sorted(nights.joinpath("a").rglob("*"))
    cleaned = clean(nights)
    assert f"holds files that no run wrote: {name.removesuffix('/x')}" in why(cleaned, nights, "a")
    assert cleaned.deleted == [str(nights / "b")]
    assert sorted(nights.joinpath("a").rglob("*")) == before
    assert output_status(str(nights / "a")).is_served


def interrupt(output: Output) -> None:
    change_report(output, status="interrupted", exit_code=130)
    output.state.withdraw()


def fail(output: Output) -> None:
    change_report(output, status="failed", exit_code=1)
    output.state.withdraw()


def kill(output: Output) -> None:
    output.state.withdraw()
    (output.run / REPORT).unlink()


@pytest.mark.parametrize("change", [interrupt, fail])
def test_an_unfinished_output_goes_with_the_complete_ones_of_its_time(nights: Path, change: Change) -> None:
    change(at(nights, "a"))
    change(at(nights, "d"))
    assert clean(nights, keep=3).deleted == []
    night(nights, "e", day=5)
    cleaned = clean(nights)
    assert cleaned.deleted == [str(nights / "a"), str(nights / "b")]
    assert "not older than the complete outputs that stay" in why(cleaned, nights, "d")


def test_a_gated_output_counts_as_complete_once_it_is_accepted(nights: Path) -> None:
    new = night(nights, "new", day=9, gated=True)
    cleaned = clean(nights, keep=4)
    assert cleaned.deleted == []
    assert "too many failed, and not older" in why(cleaned, nights, "new")
    accept_output(str(new.path), by="Ada")
    night(nights, "old", day=-1, gated=True)
    assert clean(nights, keep=4).deleted == [str(nights / "old"), str(nights / "a")]


ENDS: dict[str, Change] = {
    "complete": lambda output: None,
    "gated": lambda output: None,
    "failed": fail,
    "interrupted": interrupt,
    "killed": kill,
}


@settings(max_examples=25)
@given(st.permutations(range(6)), st.lists(st.sampled_from([*ENDS, "complete"]), min_size=6, max_size=6), st.data())
def test_whatever_the_nights_are_only_older_ones_than_those_that_stay_go(
    days: list[int], ends: list[str], data: st.DataObject
) -> None:
    with TemporaryDirectory() as path:
        folder = Path(path) / "nights"
        for day, end in zip(days, ends, strict=True):
            ENDS[end](night(folder, f"{end}-{day}", day=day, gated=end == "gated"))
        names = sorted(there(folder), key=lambda name: int(name[-1]))
        complete = [name for name in names if name.startswith("complete")]
        keep = data.draw(st.integers(1, 6))
        clean(folder, keep=keep)
        assert [name for name in names if name in there(folder) and name in complete] == complete[-keep:]
        older = names[: names.index(complete[-keep])] if len(complete) >= keep else []
        assert {*names} - {*there(folder)} == {name for name in older if not name.startswith("killed")}
        assert clean(folder, keep=keep).deleted == []


UNKNOWN: dict[str, tuple[Change, str]] = {
    "killed": (kill, "no report says when"),
    "damaged": (lambda output: (output.run / MANIFEST).write_text("{}"), "its records cannot be used"),
    "no run": (lambda output: shutil.rmtree(output.run), "no output of a run"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_cannot_be_judged_stays(nights: Path, case: str) -> None:
    change, reason = UNKNOWN[case]
    change(at(nights, "a"))
    cleaned = clean(nights)
    assert reason in why(cleaned, nights, "a")
    assert there(nights) == ["a", "c", "d"]


def test_what_runs_stays(nights: Path) -> None:
    with hold_lock(at(nights, "a").state.output):
        assert "running: " in why(clean(nights), nights, "a")
    assert there(nights) == ["a", "c", "d"]


def test_what_a_link_leads_to_stays(nights: Path) -> None:
    (nights / "served").symlink_to(nights / "a" / "scores")
    (nights / "elsewhere").symlink_to(nights.parent)
    assert f"the link {nights}/served leads to it" in why(clean(nights), nights, "a")
    assert there(nights) == ["a", "c", "d", "elsewhere", "served"]


def test_other_folders_and_files_stay(nights: Path, tmp_path: Path) -> None:
    (nights / "notes.txt").write_text("mine")
    (nights / "empty").mkdir()
    night(nights / "deeper", "x", day=-9)
    clean(nights)
    assert there(nights) == ["c", "d", "deeper", "empty", "notes.txt"]
    assert there(nights / "deeper") == ["x"]
    assert clean(tmp_path / "absent").deleted == []
    with pytest.raises(ConfigError, match="is an output itself"):
        clean(nights / "c")


def clean_armed(folder: str, crash_at: str) -> None:
    os.environ[crash_points.VARIABLE] = crash_at
    clean_outputs(folder, keep=1)


STEPS = ["lock_taken", "deletion_marked", "deletion_begun", "lock_released"]
CRASHES = [*(f"{step}:1" for step in STEPS), *(f"files_deleted:{number}" for number in range(1, 8))]


@pytest.mark.parametrize("crash_at", CRASHES)
def test_killed_at_any_step_the_output_is_whole_or_known_as_being_deleted(tmp_path: Path, crash_at: str) -> None:
    folder = tmp_path / "nights"
    output = night(folder, "a", day=0)
    night(folder, "b", day=1)
    process = forks().Process(target=clean_armed, args=(str(folder), crash_at))
    process.start()
    process.join(60)
    assert process.exitcode == crash_points.EXIT_CODE
    if not any(path.is_file() for path in output.path.rglob("*")):
        assert output_status(str(output.path)).state == "no_run"
        return
    is_marked_for_deletion = (output.run / DELETING).exists()
    assert output_status(str(output.path)).state == ("deleting" if is_marked_for_deletion else "complete")
    assert is_marked_for_deletion == (crash_at != "lock_taken:1")
    if crash_at in ("lock_taken:1", "deletion_marked:1"):
        assert verify_output(str(output.path)).is_sound
    assert clean(folder, keep=1).deleted == [str(folder / "a")]
    assert there(folder) == ["b"]


def test_no_run_begins_on_an_output_that_is_being_deleted(tmp_path: Path) -> None:
    output = finished(tmp_path)
    output.state.write(DELETING, {"begun_at": "2026-11-25T00:00:00+00:00"})
    with pytest.raises(ConfigError, match="is being deleted"):
        output.resume()
    assert output.is_marked


def test_the_command_says_what_it_deletes_and_why_it_keeps(nights: Path) -> None:
    (nights / "a" / "notes.txt").write_text("mine")
    dry = CliRunner().invoke(app, ["clean", str(nights), "--keep", "1", "--dry-run"])
    assert dry.stdout.splitlines() == [
        f"would delete {nights}/b",
        f"would delete {nights}/c",
        f"kept {nights}/d: one of the 1 newest complete outputs",
    ]
    done = CliRunner().invoke(app, ["clean", str(nights), "--keep", "1"])
    assert (done.exit_code, done.stdout.replace("deleted", "would delete")) == (1, dry.stdout)
    assert f"not deleted: {nights}/a: {nights}/a holds files that no run wrote: notes.txt" in done.stderr
    (nights / "a" / "notes.txt").unlink()
    assert CliRunner().invoke(app, ["clean", str(nights), "--keep", "1"]).exit_code == 0
    assert there(nights) == ["d"]


@pytest.mark.parametrize("key", ["reuse", "compared_with"])
def test_what_an_unfinished_run_needs_stays(nights: Path, key: str) -> None:
    place = str(nights / "a")
    output = at(nights, "d")
    fail(output)
    if key == "reuse":
        write_record(output.state, ReuseRecord(f"latest:{nights}", place, "0" * 64, refused=[]))
    else:
        manifest = json.loads((output.run / MANIFEST).read_text())
        (output.run / MANIFEST).write_text(json.dumps(manifest | {key: place}))
    assert f"{nights}/d needs it and is failed" in why(clean(nights), nights, "a")
    assert there(nights) == ["a", "b", "c", "d"]
