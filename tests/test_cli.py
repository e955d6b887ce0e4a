"""The commands as a person types them, each in a process of its own where that could make a difference."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from engine import SmallJob, num_nulls, table_with_nulls
from tables import nested_table, random_groups, write

from reranker_batch import JobConfig, __version__
from reranker_batch.cli import guarded, run_command
from reranker_batch.core.units import FileIdentity, Span, WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.job.run_progress import RunProgress
from reranker_batch.job.summary import summary_rows
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.lock import hold_lock

ROOT = Path(__file__).parents[1]
GROUPS = random_groups(8, max_candidates=5)
NUM_PAIRS = sum(len(group[2]) for group in GROUPS)

Ended = subprocess.CompletedProcess[str]
Typed = Callable[..., Ended]
OWN_LINE = "^[0-9,]+ of [0-9,]+ pairs · "
ON_RAY = ("--set", "runtime.engine=ray")


def command(*arguments: str | Path, **environment: str) -> Ended:
    return subprocess.run(
        [sys.executable, "-m", "reranker_batch", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    """`command` in this process."""

    def typed(*arguments: str | Path, **environment: str) -> Ended:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(ROOT)
            for name, value in environment.items():
                patch.setenv(name, value)
            exit_code = run_command([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, exit_code, *capsys.readouterr())

    return typed


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write(nested_table(GROUPS), tmp_path / "in.parquet")
    path = tmp_path / "job.yaml"
    values = {
        "input": {"path": str(tmp_path / "in.parquet")},
        "model": {"name": "builtin:mini"},
        "output": {"path": str(tmp_path / "out")},
    }
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.ray
def test_a_job_from_start_to_proof(config: Path, tmp_path: Path, here: Typed) -> None:
    """The whole way on a Ray of its own: plan, run through the job's entry point, run again, verify."""
    planned = here("plan", config)
    assert planned.returncode == 0, planned.stderr
    assert f"{NUM_PAIRS:,}" in planned.stdout
    assert not (tmp_path / "out").exists()
    submitted = subprocess.run(
        [sys.executable, "jobs/rerank.py", "--config", str(config), "--set", "ranking.top_n=2", *ON_RAY],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stderr
    assert f"{NUM_PAIRS:,} scored of {NUM_PAIRS:,}" in submitted.stdout
    assert submitted.stderr.splitlines()[-1].startswith(f"{NUM_PAIRS:,} of {NUM_PAIRS:,} pairs")
    unknown = [line for line in submitted.stderr.splitlines() if not re.search(OWN_LINE, line)]
    assert unknown == []
    again = command("run", config, "--set", "ranking.top_n=2", *ON_RAY, PYTHONIOENCODING="ascii")
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    refused = here("run", config, *ON_RAY)
    assert refused.returncode == 2
    assert "output.top_n: 2 -> null" in refused.stderr
    proven = here("verify", tmp_path / "out")
    assert proven.returncode == 0, proven.stderr
    assert "sound" in proven.stdout
    next((tmp_path / "out" / "scores").glob("part-*")).unlink()
    assert here("verify", tmp_path / "out").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "CONFIG", "--set", "model.nmae=x"], "model.nmae: unknown key. Did you mean name?"),
        (["run", "CONFIG", "--set", "model.name=./absent"], "Model folder ./absent does not exist"),
        (["plan", "CONFIG", "--set", "input.path=absent/*.parquet"], "absent/*.parquet"),
        (["run", "CONFIG", "--set", "output.path=FOLDER/in.parquet/out"], "is inside what the input reads"),
        (["plan", "CONFIG", "--set", "output.path=FOLDER"], "so the run could not be resumed"),
        (["run", "CONFIG", "--set", "input.path=s3://b/x?session=URISECRET"], "unknown option 'session'"),
        (["verify", "s3://b/x?session=URISECRET"], "unknown option 'session'"),
        (["plan", "CONFIG", "--like", "absent"], "absent: there is no run/report.json"),
        (["verify", "absent"], "absent holds no run"),
        (["verify", "nope://b/x"], "no filesystem known"),
        (["redrive", "absent", "CONFIG"], "absent holds no run"),
        (["run"], "Missing argument"),
        (["run", "CONFIG", "--st", "a.b=c"], "No such option"),
        (["no-such-command"], "No such command"),
    ],
)
def test_what_is_wrong_is_one_message_and_exit_code_2(
    config: Path, here: Typed, arguments: list[str], message: str
) -> None:
    names = {"CONFIG": str(config), "FOLDER": str(config.parent)}
    ended = here(*[re.sub("CONFIG|FOLDER", lambda found: names[found[0]], argument) for argument in arguments])
    assert_one_message(ended, message)


@pytest.mark.parametrize(
    ("path", "message"),
    [("absent.yaml", "absent.yaml cannot be read"), ("a\x1b[2J\nerror: b\udcff.yaml", r"a\x1b[2J")],
)
def test_a_process_ends_with_one_message_and_exit_code_2(path: str, message: str) -> None:
    assert_one_message(command("run", path), message)


def assert_one_message(ended: Ended, message: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert message in ended.stderr
    assert [line[:7] for line in ended.stderr.splitlines() if not line.startswith("  ")] == ["error: "]
    assert "URISECRET" not in ended.stderr


@pytest.mark.parametrize(
    ("level", "exit_code"),
    [("info", 0), (" Debug ", 0), ("", 0), ("loud", 2), ("10", 2)],
    ids=lambda value: repr(value),
)
def test_the_level_of_the_log_is_a_name_in_any_case(here: Typed, level: str, exit_code: int) -> None:
    ended = here("profiles", RERANKER_BATCH_LOG=level)
    assert ended.returncode == exit_code
    assert ("RERANKER_BATCH_LOG=" in ended.stderr) == (exit_code == 2)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (
            TypeError("odd\nmore"),
            1,
            "error: unexpected error: TypeError: odd\n  Please report it. RERANKER_BATCH_LOG=DEBUG",
        ),
        (RecursionError(), 1, "error: unexpected error: RecursionError"),
        (BaseException("a panic"), 1, "error: unexpected error: BaseException: a panic"),
        (KeyboardInterrupt(), 130, "interrupted: "),
        (InputError("in.parquet: \x1b[2J"), 2, "error: in.parquet: \\x1b[2J\n"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_end_is_an_exit_code_and_one_message(
    error: BaseException, exit_code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert guarded(fail)() == exit_code
    shown = capsys.readouterr().err
    assert shown.startswith(message)
    assert "Traceback" not in shown


def test_the_log_shows_where_an_unexpected_error_came_from() -> None:
    code = "from reranker_batch.cli import guarded\n@guarded\ndef f():\n    return 1 / 0\nraise SystemExit(f())"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RERANKER_BATCH_LOG": "DEBUG"},
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-2] == "error: unexpected error: ZeroDivisionError: division by zero"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_while_planning_is_one_line_and_exit_code_130(tmp_path: Path, number: signal.Signals) -> None:
    """The config is a pipe that nobody writes to, so that the command waits for it."""
    os.mkfifo(tmp_path / "job.yaml")
    arguments = [sys.executable, "-m", "reranker_batch", "plan", str(tmp_path / "job.yaml")]
    # A shell lets processes in the background ignore SIGINT, and this test may run in one.
    code = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv({sys.executable!r}, {arguments})"
    started = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with started as process:
        sink = os.open(tmp_path / "job.yaml", os.O_WRONLY)  # blocks until the command reads
        time.sleep(1)  # a signal just before the call that reads would be seen after it
        process.send_signal(number)
        _, shown = process.communicate(timeout=60)
        os.close(sink)
    assert process.returncode == 130
    assert shown == "interrupted: the same command goes on from here\n"


def test_the_summary_shows_what_was_tried_again_and_halved() -> None:
    identity = FileIdentity(1, None, "0" * 64)
    units = [WorkUnit(f"u{at}", (Span(0, "a.parquet", at, at + 1, identity),), 1) for at in range(8)]
    quiet = RunProgress(units).report("complete", "", "out")
    assert not {"tried again", "memory"} & dict(summary_rows(quiet)).keys()
    attempts = {"u0": 2, "u1": 2, "u2": 2, "u3": 2, "u4": 2, "u5": 2, "u7": 5}
    rows = dict(summary_rows(RunProgress(units, attempts=attempts, oom_splits=3).report("complete", "", "out")))
    assert rows["tried again"].startswith("7 of 8 units: u7 (5 attempts), u0 (2 attempts)")
    assert rows["tried again"].endswith("and 2 more")
    assert rows["memory"] == "3 micro-batches halved: memory ran short"


SECRETS = {"AWS_ACCESS_KEY_ID": "AKIA-fake-id", "AWS_SECRET_ACCESS_KEY": "fake/secret+key", "HF_TOKEN": "hf_fake_token"}


def assert_no_secret_in(*texts: str, folder: Path) -> None:
    """Neither in what was printed nor in any file, be it compressed inside or not."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    tables = [str(pq.read_table(path).to_pylist()).encode() for path in folder.rglob("*.parquet")]
    for secret in [*SECRETS.values(), "URISECRET"]:
        for content in [*contents, *tables, *(text.encode() for text in texts)]:
            assert secret.encode() not in content


@pytest.mark.parametrize(("unit_id", "exit_code"), [(None, 2), ("u1", 1)])
def test_a_file_that_fails_in_the_middle_of_a_run_was_not_refused(unit_id: str | None, exit_code: int) -> None:
    def read() -> None:
        raise InputError("in.parquet: row group 3 cannot be read.", unit_id=unit_id)

    assert guarded(read)() == exit_code


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_again_and_again_is_finished_by_the_same_command(
    config: Path, tmp_path: Path, here: Typed
) -> None:
    """The driver dies before any unit, then after the last one; on Ray, the processes that publish."""
    output = tmp_path / "out"
    sets = ("--set", "runtime.unit_pairs=4", "--set", "input.columns.passthrough=[]")
    first = command("run", config, *sets, RERANKER_BATCH_CRASH_AT="manifest_written", **SECRETS)
    assert first.returncode == 137
    assert (output / "run" / "lock.1").exists()
    second = command(
        "run", config, *sets, RERANKER_BATCH_CRASH_AT="report_written", RERANKER_BATCH_LOG="INFO", **SECRETS
    )
    assert second.returncode == 137, second.stderr
    assert "was taken over" in second.stderr
    scores = output / "scores"
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in scores.iterdir()}
    assert len(before) > 1
    assert scores / "_SUCCESS" not in before
    next(iter(before)).unlink()
    before.pop(next(iter(before)))
    third = command("run", config, *sets, *ON_RAY, RERANKER_BATCH_CRASH_AT="part_published:2", **SECRETS)
    assert third.returncode == 0, third.stderr
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    names = sorted(path.name for path in (output / "run").iterdir())
    assert names == ["manifest.json", "plan.json", "report.html", "report.json"]
    assert here("verify", output).returncode == 0
    printed = [text for ended in (first, second, third) for text in (ended.stdout, ended.stderr)]
    assert_no_secret_in(*printed, folder=output)


def test_a_second_run_is_refused_with_the_name_of_the_first(config: Path, tmp_path: Path) -> None:
    with hold_lock(Folder.at(str(tmp_path / "out"))):
        ended = command("run", config, *ON_RAY)
    assert ended.returncode == 2
    assert f"process {os.getpid()}, started 20" in ended.stderr
    assert socket.gethostname() in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["input.path=s3://AKIA-fake-id:URISECRET@bucket/in"],
        ["output.path=s3://AKIA-fake-id:URISECRET@bucket/out"],
    ],
    ids=["input", "output"],
)
def test_secrets_stay_out_of_messages(config: Path, tmp_path: Path, overrides: list[str]) -> None:
    arguments = [part for override in overrides for part in ("--set", override)]
    ended = command("run", config, *arguments, RERANKER_BATCH_LOG="DEBUG", **SECRETS)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert_no_secret_in(ended.stdout, ended.stderr, folder=tmp_path)
    assert not (tmp_path / "out").exists()


def test_bad_files_are_skipped_where_that_is_asked_for(config: Path, tmp_path: Path, here: Typed) -> None:
    write(nested_table(GROUPS), tmp_path / "many" / "a.parquet")
    (tmp_path / "many" / "b.parquet").write_bytes(b"PAR1 no more")
    many = ("--set", f"input.path={tmp_path}/many")
    skipped = here("plan", config, *many, "--set", "input.skip_bad_files=true")
    assert skipped.returncode == 0, skipped.stderr
    assert "b.parquet cannot be used" in skipped.stderr
    assert f"{NUM_PAIRS:,}" in skipped.stdout


def test_a_plan_is_also_one_json_object(config: Path, tmp_path: Path, here: Typed) -> None:
    groups = [group for group in GROUPS if group[2]]
    write(nested_table(groups), tmp_path / "many" / "a.parquet")
    (tmp_path / "many" / "b.parquet").write_bytes(b"PAR1 no more")
    sets = (f"input.path={tmp_path}/many", "input.skip_bad_files=true", "limits.max_documents=2")
    planned = here(
        "plan", config, "--json", "--pairs-per-second", "0.5", *[part for one in sets for part in ("--set", one)]
    )
    assert planned.returncode == 0, planned.stderr
    values = json.loads(planned.stdout)
    assert (values["files"], values["rows"], values["pairs"]) == (1, len(groups), NUM_PAIRS)
    assert values["estimated"]["requests"] == sum(-(-len(group[2]) // 2) for group in groups)
    assert values["limits"]["max_documents"] == 2
    assert "b.parquet" in " ".join(values["skipped_files"].values())
    assert (values["warnings"], values["expected_s"]) == ([], NUM_PAIRS / 0.5)


@pytest.mark.parametrize("name", ["run", "plan"])
def test_the_config_is_printed_with_defaults_and_nothing_else_happens(
    config: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The input and the model are not there, so that anything else would fail."""
    overrides = [
        "input.path=absent",
        "model.name=./absent",
        "model.instruct=Günstig?\nJa: \u202e nein",
        "ranking.top_n=7",
    ]
    sets = [part for override in overrides for part in ("--set", override)]
    before = sorted(tmp_path.iterdir())
    assert run_command([name, str(config), *sets, "--print-config"]) == 0
    printed = tmp_path / "printed.yaml"
    assert sorted(tmp_path.iterdir()) == before
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    assert JobConfig.load(printed) == JobConfig.load(config, overrides=overrides)
    assert "  max_batch_tokens: auto\n" in printed.read_text(encoding="utf-8")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"reranker-batch {__version__}\n"


def test_a_shell_completes_commands_and_options() -> None:
    asked = {"_RERANKER_BATCH_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert command(COMP_WORDS="reranker-batch pl", **asked).stdout.split() == ["plan"]


def test_dead_letters_become_an_input_by_command(tmp_path: Path, here: Typed) -> None:
    write(table_with_nulls(GROUPS), tmp_path / "in.parquet")
    SmallJob(str(tmp_path / "in.parquet"), str(tmp_path / "out")).run()
    ended = here("redrive", tmp_path / "out", tmp_path / "again")
    assert ended.returncode == 0, ended.stderr
    assert f"{num_nulls(GROUPS)} candidates ({num_nulls(GROUPS)} null_document)" in ended.stdout
    assert f"--set input.path={tmp_path / 'again'}" in " ".join(ended.stdout.split())
    assert here("redrive", tmp_path / "out", tmp_path / "again").returncode == 2
    onto_a_file = here("redrive", tmp_path / "out", tmp_path / "in.parquet")
    assert onto_a_file.returncode == 2
    assert "in.parquet is not empty. Give a new folder" in onto_a_file.stderr


def test_help_and_lists_need_no_job(here: Typed) -> None:
    assert "--set" in here("run", "--help").stdout
    assert "qwen3-rerank" in here("profiles").stdout
    listed = here("recipes").stdout
    assert "modernbert" in listed
    assert "qwen3-reranker" in listed
    assert "semantic_similarity" in listed


def test_a_model_can_be_tried_by_command(tmp_path: Path, here: Typed) -> None:
    tried = here("recipes", "--check", "builtin:mini", RERANKER_BATCH_LOG="ERROR")
    assert tried.returncode == 0, tried.stderr
    assert "cross-encoder (version 1)" in tried.stdout
    refused = here("recipes", "--check", tmp_path)
    assert refused.returncode == 2
    assert "no config.json" in refused.stderr
