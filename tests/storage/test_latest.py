"""The newest complete output of a folder of nights."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nights import FIRST, change_report, end_at, night
from outputs import Output, finished

from reranker_batch.errors import ConfigError
from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.latest import latest_output, named_output
from reranker_batch.storage.output.lock import hold_lock
from reranker_batch.storage.output.run_state import MANIFEST, REPORT


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    """Three complete outputs; their names sort against their ages."""
    folder = tmp_path / "nights"
    for day, name in enumerate(["c", "b", "a"]):
        night(folder, name, day=day)
    return folder


def latest(folder: Path, **options: Any) -> str | None:
    found = latest_output(str(folder), **options)
    return None if found is None else str(Path(found).relative_to(folder))


def test_a_run_says_when_it_ended(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    output = finished(tmp_path)
    output.state.remove(REPORT)
    output.resume()
    report = output.state.report()
    assert report is not None
    ended = datetime.fromisoformat(report.finished_at)
    assert before - timedelta(seconds=1) < ended < datetime.now(UTC) + timedelta(seconds=1)
    output.resume()
    assert output.state.report() == report


def test_the_newest_is_the_one_that_ended_last(nights: Path) -> None:
    assert latest(nights) == "a"
    assert latest(nights, exclude=str(nights / "a")) == "b"
    end_at(Output(nights / "c", name=""), "2026-11-24T00:00:00+00:00")
    assert latest(nights) == "c"


def test_of_equal_times_the_last_name_is_the_newest(nights: Path) -> None:
    for name in "abc":
        end_at(Output(nights / name, name=""), FIRST)
    assert latest(nights) == "c"


def written_at(output: Output, time: datetime) -> None:
    os.utime(output.run / REPORT, (time.timestamp(), time.timestamp()))


def test_reports_are_read_from_the_newest_file_on_and_only_as_far_as_needed(
    nights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A report may be large."""
    for day, name in enumerate("cba"):
        written_at(Output(nights / name, name=""), FIRST + timedelta(days=day, seconds=1))
    (nights / "c" / "run" / REPORT).write_text("{")
    written_at(Output(nights / "c", name=""), FIRST)
    assert (latest(nights), caplog.messages) == ("a", [])
    written_at(Output(nights / "b", name=""), FIRST + timedelta(days=9))
    assert (latest(nights), caplog.messages) == ("a", [])
    written_at(Output(nights / "c", name=""), FIRST + timedelta(days=9))
    assert latest(nights) == "a"
    assert "c is left out" in caplog.messages[0]


UNFIT: dict[str, Callable[[Output], object]] = {
    "without marker": lambda output: (output.path / "scores" / "_SUCCESS").unlink(),
    "without report": lambda output: (output.run / REPORT).unlink(),
    "damaged report": lambda output: (output.run / REPORT).write_text("{"),
    "damaged manifest": lambda output: (output.run / MANIFEST).write_text("{}"),
    "no time": lambda output: end_at(output, "soon"),
    "contradicts itself": lambda output: change_report(output, status="failed", exit_code=1),
}


@pytest.mark.parametrize("change", UNFIT)
def test_what_is_not_complete_or_cannot_be_read_does_not_count(nights: Path, change: str) -> None:
    UNFIT[change](Output(nights / "a", name=""))
    assert latest(nights) == "b"


def test_what_runs_does_not_count(nights: Path) -> None:
    with hold_lock(Output(nights / "a", name="").state.output):
        assert latest(nights) == "b"
    assert latest(nights) == "a"


def test_a_gated_output_counts_once_it_is_accepted(nights: Path) -> None:
    gated = night(nights, "gated", day=5, gated=True)
    assert latest(nights) == "a"
    accept_output(str(gated.path), by="Ada")
    assert latest(nights) == "gated"


def test_only_folders_directly_below_count_and_links_do_not(nights: Path, tmp_path: Path) -> None:
    night(nights / "deeper", "d", day=9)
    (nights / "newest").symlink_to(nights / "b")
    (nights / "notes.txt").write_text("mine")
    (nights / "scores").mkdir()
    assert latest(nights) == "a"
    (tmp_path / "link").symlink_to(nights)
    assert latest_output(str(tmp_path / "link"), exclude=str(nights / "a")) == str(tmp_path / "link" / "b")


def test_a_time_that_is_still_to_come_is_said(nights: Path, caplog: pytest.LogCaptureFixture) -> None:
    end_at(Output(nights / "b", name=""), datetime.now(UTC) + timedelta(minutes=1))
    assert latest(nights) == "b"
    assert caplog.messages == []
    end_at(Output(nights / "b", name=""), datetime.now(UTC) + timedelta(days=1))
    with caplog.at_level(logging.WARNING):
        assert latest(nights) == "b"
    assert "still to come by the clock of this machine" in caplog.messages[0]


def test_folders_without_an_output(tmp_path: Path) -> None:
    assert latest_output(str(tmp_path / "absent")) is None
    assert latest_output(str(tmp_path)) is None
    assert not (tmp_path / "absent").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        latest_output(str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="needs the folder"):
        named_output("latest: ")
    output = finished(tmp_path / "one")
    with pytest.raises(ConfigError, match="is an output itself"):
        latest_output(str(output.path))


def test_a_config_value_names_a_place_or_the_newest(nights: Path) -> None:
    assert named_output("out/some") == "out/some"
    assert named_output(f"latest:{nights}", exclude=str(nights / "a")) == str(nights / "b")
    assert named_output(f"latest:{nights / 'absent'}") is None
