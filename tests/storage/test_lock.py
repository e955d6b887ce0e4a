"""Two runs on one output never mix."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from engine import SmallJob, forks, kept_rows, right_rows, run_in_a_process
from fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st
from tables import nested_table, random_groups, write

from reranker_batch.errors import CommitError, ConfigError, LockedError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.crash_points import EXIT_CODE
from reranker_batch.storage.output.lock import Lock, hold_lock, take_lock
from reranker_batch.storage.output.lock_files import LockFiles, Owner, start_ticks

BEAT_S = 0.05


@pytest.fixture
def output(tmp_path: Path) -> Folder:
    return Folder.at(str(tmp_path / "some where" / "out"))


def names(output: Folder) -> list[str]:
    run = Path(output.path) / "run"
    return sorted(path.name for path in run.iterdir()) if run.exists() else []


def foreign(run_id: str = "far", *, pid: int = 4711) -> Owner:
    """A process of another machine."""
    here = Owner.this_process(run_id, took_over=None)
    return dataclasses.replace(here, host="far-away", machine="far-away boot", pid=pid)


def dead(output: Folder, number: int = 1) -> Owner:
    """The lock of a process of this machine that is gone, its pid used again by this one."""
    owner = dataclasses.replace(Owner.this_process("gone", took_over=None), start_ticks=1)
    LockFiles.of(output).create(number, owner)
    return owner


def test_the_second_run_is_refused_with_the_name_of_the_first(output: Folder) -> None:
    with hold_lock(output) as lock:
        with pytest.raises(LockedError) as caught:
            take_lock(output)
        message = str(caught.value)
        for part in (output.uri, socket.gethostname(), f"process {os.getpid()}", "started 20", lock.ticket.run_id):
            assert part in message
        assert "Wait for it, stop it" in message
        lock.confirm()
    assert isinstance(caught.value, ConfigError)  # exit code 2


def test_a_lock_leaves_nothing_behind_and_can_be_taken_again(output: Folder) -> None:
    for _ in range(2):
        with hold_lock(output):
            assert names(output) == ["lock.1"]
    assert not Path(output.path).parent.exists()
    Path(output.path).mkdir(parents=True)
    with hold_lock(output):
        pass
    assert [*Path(output.path).iterdir()] == []


def test_the_lock_of_a_killed_process_is_taken_over_at_once_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    groups = random_groups(6, max_candidates=4)
    write(nested_table(groups), tmp_path / "in" / "a.parquet")
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"))
    assert run_in_a_process(job, "part_published:1") == EXIT_CODE
    assert "lock.1" in names(Folder(job.output))
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        job.run()
    assert time.monotonic() - started < 10
    [record] = [record for record in caplog.records if "taken over" in record.getMessage()]
    assert f"on host {socket.gethostname()}" in record.getMessage()
    assert kept_rows(tmp_path / "out") == right_rows(groups)
    assert [name for name in names(Folder(job.output)) if name.startswith("lock")] == []


def test_a_pid_that_is_used_again_is_not_the_owner(output: Folder) -> None:
    dead(output)
    with hold_lock(output):
        assert names(output) == ["lock.2"]


@pytest.mark.parametrize("end", ["runs", "killed", "zombie", "stopped"])
def test_a_process_of_this_machine_tells_whether_it_runs(output: Folder, end: str) -> None:
    """By its start in ticks since boot, which no change of the time of day moves."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = dataclasses.replace(
            Owner.this_process("child", took_over=None), pid=process.pid, start_ticks=start_ticks(process.pid)
        )
        LockFiles.of(output).create(1, owner)
        if end in ("killed", "zombie"):
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | (os.WNOWAIT if end == "zombie" else 0))
        if end == "stopped":
            process.send_signal(signal.SIGSTOP)
        os.utime(Path(output.path) / "run" / "lock.1", (1_000_000, 1_000_000))  # far too old by the clock
        try:
            if end in ("killed", "zombie"):
                with hold_lock(output):
                    assert names(output) == ["lock.2"]
            else:
                with pytest.raises(LockedError, match=f"process {process.pid}"):
                    take_lock(output, heartbeat_s=BEAT_S)
        finally:
            process.kill()
            with suppress(ChildProcessError):
                process.wait()


@pytest.mark.parametrize("machine", ["", "far-away boot"], ids=["unknown", "another"])
@pytest.mark.parametrize("shift_s", [-3600, 3600, 86400 * 365 * 50], ids=["behind", "ahead", "decades ahead"])
def test_a_lock_whose_time_means_nothing_is_watched(output: Folder, machine: str, shift_s: int) -> None:
    """Still: dead, whatever its time says. Moving: alive."""
    files, owner = LockFiles.of(output), dataclasses.replace(foreign(), machine=machine)
    path, ended = Path(output.path) / "run" / "lock.1", threading.Event()
    files.create(1, owner)

    def beat() -> None:
        number = 0
        while not ended.wait(BEAT_S / 4):
            number += 1
            files.write(1, dataclasses.replace(owner, beat=number))
            os.utime(path, (time.time() + shift_s, time.time() + shift_s))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockedError):
            take_lock(output, heartbeat_s=BEAT_S)
    finally:
        ended.set()
        thread.join()
    os.utime(path, (time.time() + shift_s, time.time() + shift_s))
    with hold_lock(output, heartbeat_s=BEAT_S):
        assert names(output) == ["lock.2"]


def test_a_lock_of_another_machine_is_dead_when_its_heartbeat_stands_still(output: Folder) -> None:
    LockFiles.of(output).create(1, foreign())
    with pytest.raises(LockedError, match="far-away, process 4711"):
        take_lock(output)
    time.sleep(7 * BEAT_S)
    with hold_lock(output, heartbeat_s=BEAT_S):
        assert names(output) == ["lock.2"]


def test_a_lock_whose_clock_is_behind_is_alive_while_its_heartbeat_moves(output: Folder) -> None:
    files, ended = LockFiles.of(output), threading.Event()
    files.create(1, foreign())

    def beat() -> None:
        number = 0
        while not ended.wait(BEAT_S / 4):
            number += 1
            files.write(1, dataclasses.replace(foreign(), beat=number))
            os.utime(Path(output.path) / "run" / "lock.1", (1_000_000 + number, 1_000_000 + number))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockedError):
            take_lock(output, heartbeat_s=BEAT_S)
    finally:
        ended.set()
        thread.join()


def test_a_lock_file_without_content_is_judged_by_its_age(output: Folder) -> None:
    path = Path(output.path) / "run" / "lock.1"
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(LockedError, match="cannot be read"):
        take_lock(output)
    os.utime(path, (1_000_000, 1_000_000))
    with hold_lock(output, heartbeat_s=BEAT_S):
        assert names(output) == ["lock.2"]


@pytest.mark.parametrize("leave", [lambda output: None, dead], ids=["nothing", "dead"])
def test_of_many_that_start_at_once_one_wins(tmp_path: Path, leave: Callable[[Folder], object]) -> None:
    for round_ in range(5):
        output = Folder.at(str(tmp_path / str(round_)))
        leave(output)
        won = _race(output, runners=8)
        assert len(won) == 1
        assert [name for name in names(output) if name != f"lock.{won[0].ticket.number}"] == []
        won[0].confirm()
        won[0].release()


def _race(output: Folder, runners: int) -> list[Lock]:
    won: list[Lock] = []
    barrier = threading.Barrier(runners)

    def take() -> None:
        barrier.wait()
        with suppress(LockedError):
            won.append(take_lock(output))

    threads = [threading.Thread(target=take) for _ in range(runners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_of_two_processes_started_in_the_same_second_one_does_the_job(tmp_path: Path) -> None:
    groups = random_groups(40, max_candidates=6)
    write(nested_table(groups), tmp_path / "in" / "a.parquet", row_group_size=2)
    job = SmallJob(str(tmp_path / "in"), str(tmp_path / "out"), unit_pairs=4)
    barrier = forks().Barrier(2)
    both = [forks().Process(target=_run_together, args=(job, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert sorted(process.exitcode or 0 for process in both) == [0, 2]
    assert kept_rows(tmp_path / "out") == right_rows(groups)


def _run_together(job: SmallJob, barrier: threading.Barrier) -> None:
    barrier.wait()
    try:
        job.run()
    except LockedError:
        os._exit(2)


def test_a_run_that_was_taken_for_dead_stops_before_it_publishes_more(output: Folder) -> None:
    with hold_lock(output, heartbeat_s=BEAT_S) as lock:
        ticket = pickle.loads(pickle.dumps(lock.ticket))  # as it travels to the processes that publish
        ticket.confirm()
        successor = dataclasses.replace(foreign("second"), took_over=lock.ticket.run_id)
        LockFiles.of(output).create(2, successor)
        with pytest.raises(CommitError, match=r"has lost .* to run second on host far-away"):
            ticket.confirm()
        LockFiles.of(output).remove(1)
        LockFiles.of(output).remove(2)  # the successor has come and gone
        with pytest.raises(CommitError, match="is gone"):
            ticket.confirm()
        deadline = time.monotonic() + 20
        while not lock.is_lost and time.monotonic() < deadline:
            time.sleep(BEAT_S)
        assert lock.is_lost
        LockFiles.of(output).create(1, foreign("third"))
    assert names(output) == ["lock.1"]  # what a later run holds is left alone


def test_a_heartbeat_renews_the_file(output: Folder) -> None:
    with hold_lock(output, heartbeat_s=BEAT_S):
        path = Path(output.path) / "run" / "lock.1"
        deadline = time.monotonic() + 20
        while json.loads(path.read_bytes())["beat"] < 3:
            assert time.monotonic() < deadline
            time.sleep(BEAT_S)


def test_a_place_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{tmp_path}/file/out cannot be written: {tmp_path}/file is a file"):
        take_lock(Folder.at(f"{tmp_path}/file/out"))
    with pytest.raises(ConfigError, match=r"memory:// has no create-if-absent write"):
        take_lock(Folder.at("memory://somewhere/out"))


def test_an_object_store_is_locked_by_a_conditional_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a store that runs in this process: moto's."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(
            Bucket="nightly"
        )
        output = Folder.at(f"s3://nightly/a b/out?region=us-east-1&endpoint_override={host}:{port}&scheme=http")
        won = _race(output, runners=8)
        assert len(won) == 1
        assert output.filesystem.get_file_info(output.child("run", "lock.1")).size > 0
        won[0].release()
        dead(output)
        with hold_lock(output) as lock:
            assert lock.ticket.number == 2
    finally:
        server.stop()


OWNERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
        for name in [*Owner.__dataclass_fields__, "more"]
    },
)


@fuzzed
@given(
    content=st.binary(max_size=40)
    | OWNERS.map(lambda owner: json.dumps(owner).encode())
    | OWNERS.map(lambda owner: json.dumps(dataclasses.asdict(foreign()) | owner).encode())
    | st.sampled_from([b"[" * 100_000, b"{}", b"null", b"[1]", b'{"pid": 1e400}', b"\xff\xfe", b"x" * 70_000]),
    time_s=st.integers(-(2**40), 2**40) | st.sampled_from([0, 2**31, 2**33, 2**62]),
    name=st.sampled_from(["lock.1", "lock.7", "lock.01", "lock.²", "lock.x", "lock.", "lock.99999999999999999999999"]),
)
def test_any_lock_file_ends_in_a_lock_or_a_refusal(
    content: bytes, time_s: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("locked") / "run" / name
    path.parent.mkdir()
    path.write_bytes(content)
    with suppress(OSError, OverflowError):  # more than the file system takes
        os.utime(path, (time_s, time_s))
    try:
        take_lock(Folder.at(str(path.parents[1])), heartbeat_s=0.001).release()
        return
    except (LockedError, CommitError) as error:
        message = str(error)
    assert "locked" in message
    assert len(message) < 2000
