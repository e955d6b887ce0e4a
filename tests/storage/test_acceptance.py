"""What became of a run, and letting a gated output through."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import NanScorer, run_in_a_process
from outputs import REASON, Output, finished
from typer.testing import CliRunner

from reranker_batch import accept
from reranker_batch.cli import app
from reranker_batch.errors import CommitError, ConfigError, LockedError
from reranker_batch.storage.output.gate import Acceptance, Gate, read_gate, remove_gate, set_gate, write_gate
from reranker_batch.storage.output.lock import hold_lock
from reranker_batch.storage.output.run_state import GATED, MANIFEST, PAGE, REPORT
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.output.verifying import verify_output


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return finished(tmp_path / "night")


@pytest.fixture
def gated(tmp_path: Path) -> Output:
    return finished(tmp_path / "night", gated=True)


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def end_as(output: Output, **changes: Any) -> None:
    """Let the last attempt have ended otherwise, before the marker."""
    report = output.state.report()
    assert report is not None
    output.state.write(REPORT, replace(report, **changes).to_dict())
    output.state.close()
    output.state.withdraw()


def crash(output: Output, point: str) -> None:
    """Lose a part, and end while it is made again."""
    output.parts()[0].unlink()
    assert run_in_a_process(output.job(), f"{point}:1", NanScorer()) != 0


ENDS: dict[str, tuple[Callable[[Output], object], int, int | None]] = {
    "complete": (lambda output: None, 0, 0),
    "failed": (lambda output: end_as(output, status="failed", message="The model is gone."), 1, 1),
    "interrupted": (lambda output: end_as(output, status="interrupted"), 130, 130),
    "no_run": (lambda output: shutil.rmtree(output.path), 2, None),
    "too_many_failed": (lambda output: set_gated(output, 3), 3, 3),
}


def set_gated(output: Output, exit_code: Any) -> None:
    end_as(output, status="too_many_failed")
    set_gate(output.state, Gate(exit_code, [REASON]))
    output.state.close()


@pytest.mark.parametrize("state", ENDS)
def test_status_says_what_became_of_a_run_and_is_0_only_for_what_may_be_served(output: Output, state: str) -> None:
    end, exit_code, run_exit_code = ENDS[state]
    end(output)
    shown = command("status", output.path)
    assert (shown.exit_code, shown.stdout.startswith(f"{output.path}: {state.replace('_', ' ')}.")) == (exit_code, True)
    machine = command("status", output.path, "--json")
    assert machine.exit_code == exit_code
    values = json.loads(machine.stdout)
    assert (values["status"], values["exit_code"], values["is_served"]) == (state, run_exit_code, exit_code == 0)
    assert output.path.exists() == (state != "no_run")


@pytest.mark.parametrize("point", ["part_staged", "part_published", "report_written"])
def test_a_run_that_was_killed_while_it_repaired_is_interrupted_and_not_served(output: Output, point: str) -> None:
    right = output.rows()
    crash(output, point)
    assert not output.is_marked
    assert output_status(str(output.path)).state == "interrupted"
    output.resume()
    assert output_status(str(output.path)).state == "complete"
    assert output.rows() == right


def test_an_output_that_is_being_worked_on_is_running(output: Output) -> None:
    with hold_lock(output.state.output):
        status = output_status(str(output.path))
        assert (status.state, status.run_exit_code, status.exit_code, status.is_served) == ("running", None, 1, False)
        assert "process" in status.message
    assert output_status(str(output.path)).state == "complete"


def test_records_that_contradict_the_marker_are_one_error(output: Output) -> None:
    end_as(output, status="failed")
    (output.path / "scores" / "_SUCCESS").touch()
    with pytest.raises(CommitError, match=r"_SUCCESS is there, but .*verify"):
        output_status(str(output.path))
    assert command("status", output.path).exit_code == 1


def test_a_gated_output_is_served_once_somebody_accepts_it(gated: Output) -> None:
    assert not gated.is_marked
    assert command("verify", gated.path).exit_code == 3
    assert "not served: gated" in command("verify", gated.path).stderr
    shown = command("accept", gated.path, "--by", "Ada")
    assert (shown.exit_code, "accepted by Ada at 20" in shown.stdout, REASON in shown.stdout) == (0, True, True)
    assert gated.is_marked
    assert json.loads((gated.run / GATED).read_text())["accepted"]["by"] == "Ada"
    assert sorted(path.name for path in gated.run.iterdir()) == [GATED, MANIFEST, "plan.json", PAGE, REPORT]
    status = json.loads(command("status", gated.path, "--json").stdout)
    assert (status["status"], status["exit_code"], status["accepted"]["by"]) == ("accepted", 3, "Ada")
    assert command("status", gated.path).exit_code == 0
    assert command("verify", gated.path).exit_code == 0


def test_the_user_of_the_system_accepts_unless_told_otherwise(gated: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    gate = accept(str(gated.path))
    assert gate.accepted is not None
    assert gate.accepted.by == "grace"


def test_an_acceptance_that_was_cut_off_before_the_marker_is_finished_by_the_next(gated: Output) -> None:
    write_gate(gated.state, Gate(3, [REASON], Acceptance("Ada", "2026-11-22T01:00:00+00:00")))
    gated.state.close()
    status = output_status(str(gated.path))
    assert (status.state, status.is_served) == ("too_many_failed", False)
    gate = accept(str(gated.path), by="Grace")
    assert gate.accepted == Acceptance("Ada", "2026-11-22T01:00:00+00:00")
    assert gated.is_marked


def test_what_cannot_be_accepted_is_refused(gated: Output, tmp_path: Path) -> None:
    for by in ("", "  ", "a\x1b[31mb"):
        with pytest.raises(ConfigError, match="--by NAME"):
            accept(str(gated.path), by=by)
    with hold_lock(gated.state.output), pytest.raises(LockedError, match="Another run is at work"):
        accept(str(gated.path))
    assert not gated.is_marked
    accept(str(gated.path))
    with pytest.raises(ConfigError, match="nothing to accept: accepted. Accepted by"):
        accept(str(gated.path))
    with pytest.raises(ConfigError, match="no finished output to accept: no run"):
        accept(str(tmp_path / "absent"))
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("state", ["complete", "failed", "interrupted", "no_run"])
def test_only_a_gated_output_can_be_accepted(output: Output, state: str) -> None:
    ENDS[state][0](output)
    was_marked = output.is_marked
    with pytest.raises(ConfigError, match=f"to accept: {state.replace('_', ' ')}"):
        accept(str(output.path))
    assert output.is_marked == was_marked


@pytest.mark.parametrize("folder", ["scores", "dead_letters"])
def test_a_gated_output_that_is_damaged_is_not_accepted(gated: Output, folder: str) -> None:
    gated.parts(folder)[0].write_bytes(b"x")
    ended = command("accept", gated.path)
    assert (ended.exit_code, "not what its record says" in ended.stderr) == (1, True)
    assert not gated.is_marked
    assert json.loads((gated.run / GATED).read_text())["accepted"] is None
    assert [path.name for path in gated.run.iterdir() if path.name.startswith("lock")] == []


def test_setting_a_gate_again_keeps_what_was_accepted_for_the_same_reasons_only(gated: Output) -> None:
    accepted = accept(str(gated.path))
    closed = replace(accepted, accepted=None)
    assert set_gate(gated.state, closed) == accepted
    assert gated.is_marked
    assert set_gate(gated.state, replace(closed, reasons=["9 dead letters."])).accepted is None
    assert not gated.is_marked
    (gated.run / GATED).write_text("{broken")
    assert set_gate(gated.state, closed) == read_gate(gated.state)
    remove_gate(gated.state)
    assert read_gate(gated.state) is None


@pytest.mark.parametrize(
    "change",
    [
        {"exit_code": 0},
        {"exit_code": "3"},
        {"reasons": []},
        {"reasons": "many"},
        {"accepted": True},
        {"accepted": {"by": "Ada"}},
        {"accepted": {"by": 3, "at": 4}},
    ],
    ids=str,
)
def test_a_gate_that_no_run_wrote_is_one_error(gated: Output, change: dict[str, Any]) -> None:
    values = json.loads((gated.run / GATED).read_text())
    (gated.run / GATED).write_text(json.dumps(values | change))
    for call in (output_status, verify_output, accept):
        with pytest.raises(CommitError, match=r"run/gated.json .*The `run` command of this job writes it again"):
            call(str(gated.path))
    assert not gated.is_marked


def contents(output: Output) -> dict[str, tuple[int, bytes]]:
    files = [path for path in output.path.rglob("*") if path.is_file()]
    return {str(path.relative_to(output.path)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


class NoScorer(NanScorer):
    """Must not be asked."""

    def score(self, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("something was scored again")


def test_the_same_command_repeats_the_verdict_and_touches_nothing(gated: Output) -> None:
    before = contents(gated)
    gated.job(max_failed=0).run(NoScorer())
    assert contents(gated) == before
    accept(str(gated.path))
    before = contents(gated)
    gated.job(max_failed=0).run(NoScorer())
    assert contents(gated) == before


def test_another_limit_decides_anew_without_scoring(gated: Output) -> None:
    gated.job(max_failed=2).run(NoScorer())
    assert output_status(str(gated.path)).state == "complete"
    assert verify_output(str(gated.path)).exit_code == 0
    assert not (gated.run / GATED).exists()
    gated.job(max_failed=1).run(NoScorer())
    assert output_status(str(gated.path)).state == "too_many_failed"
    assert verify_output(str(gated.path)).exit_code == 3
    assert not gated.is_marked


@pytest.mark.parametrize("name", [REPORT, GATED])
@pytest.mark.parametrize("content", [None, b"", b"{broken", b"{}"])
def test_a_report_or_gate_that_is_damaged_is_written_again_without_scoring(
    gated: Output, name: str, content: bytes | None
) -> None:
    (gated.run / name).unlink() if content is None else (gated.run / name).write_bytes(content)
    gated.job(max_failed=0).run(NoScorer())
    assert verify_output(str(gated.path)).exit_code == 3
    assert output_status(str(gated.path)).state == "too_many_failed"


def test_a_repair_of_an_accepted_output_keeps_the_acceptance(gated: Output) -> None:
    accept(str(gated.path), by="Ada")
    right = gated.rows()
    gated.parts()[0].unlink()
    gated.parts("dead_letters")[0].unlink()
    gated.resume(max_failed=0)
    assert output_status(str(gated.path)).to_dict()["accepted"]["by"] == "Ada"
    assert verify_output(str(gated.path)).exit_code == 0
    assert gated.rows() == right
