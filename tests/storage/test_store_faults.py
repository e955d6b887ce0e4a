"""Stores that fail now and then, for good, or because they are full."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine import SmallJob, kept_rows, right_rows
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import fs
from tables import nested_table, random_groups, write

from reranker_batch.config import InputConfig
from reranker_batch.core.counts import Counts
from reranker_batch.errors import CommitError, InputError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.input.planning import plan_input
from reranker_batch.storage.output.parts import SCORES, PartRecord, publish_part
from reranker_batch.storage.output.run_state import MANIFEST, RunState

RECORD = PartRecord("00000-0000000000", "f", Counts())
TABLE = pa.table({"a": [1, 2, 3]})


class FlakyFileSystem(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Memory whose next calls fail as told: `faults[operation]` holds the errors to come."""

    protocol = "flaky"
    faults: dict[str, list[OSError]] = {}  # noqa: RUF012

    @classmethod
    def fail(cls, operation: str) -> None:
        if cls.faults.get(operation):
            raise cls.faults[operation].pop(0)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self.fail("read" if mode == "rb" else "write")
        return super()._open(path, mode, **options)

    def mv(self, *arguments: Any, **options: Any) -> None:
        self.fail("move")
        super().mv(*arguments, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        self.fail("list")
        return super().ls(path, detail=detail, **options)


@pytest.fixture
def place() -> Iterator[str]:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    FlakyFileSystem.faults = {}
    yield f"flaky://{uuid.uuid4().hex}"
    FlakyFileSystem.faults = {}


PASSING: list[Callable[[], OSError]] = [
    lambda: TimeoutError("read timed out"),
    lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    lambda: OSError(errno.EIO, "Input/output error"),
    lambda: OSError("AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate."),
    lambda: OSError("When reading 'b/k': AWS Error UNKNOWN (HTTP status 503) during HeadObject operation"),
]


def table_at(place: str) -> str:
    with fsspec.open(f"{place}/in.parquet", "wb") as sink:
        pq.write_table(nested_table(random_groups(6)), sink)
    return f"{place}/in.parquet"


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: str(fault())[:20])
def test_a_read_that_fails_for_a_moment_is_tried_again(
    place: str, fault: Callable[[], OSError], caplog: pytest.LogCaptureFixture
) -> None:
    config = InputConfig(path=table_at(place))
    FlakyFileSystem.faults = {"read": [fault()], "list": [fault()]}
    plan = plan_input(config, unit_pairs="auto")
    FlakyFileSystem.faults = {"read": [fault(), fault()]}
    with caplog.at_level(logging.WARNING):
        rows = plan.source.read(plan.units[0])
    assert len(rows.queries) == 6
    assert [record for record in caplog.messages if "(attempt 2 of 5)" in record]
    assert not FlakyFileSystem.faults["read"]


def test_a_read_that_keeps_failing_fails_by_name_after_five_attempts(place: str) -> None:
    config = InputConfig(path=table_at(place))
    plan = plan_input(config, unit_pairs="auto")
    FlakyFileSystem.faults = {"read": [TimeoutError("read timed out")] * 9}
    with pytest.raises(InputError, match=r"in.parquet cannot be read: read timed out"):
        plan.source.read(plan.units[0])
    assert len(FlakyFileSystem.faults["read"]) == 4


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), FileNotFoundError(2, "gone"), OSError(28, "full")])
def test_what_cannot_pass_is_not_tried_again(place: str, error: OSError) -> None:
    config = InputConfig(path=table_at(place))
    plan = plan_input(config, unit_pairs="auto")
    FlakyFileSystem.faults = {"read": [error] * 9}
    with pytest.raises(InputError, match="in.parquet cannot be read"):
        plan.source.read(plan.units[0])
    assert len(FlakyFileSystem.faults["read"]) == 8


def files_of(output: Folder) -> list[str]:
    infos = output.filesystem.get_file_info(fs.FileSelector(output.path, recursive=True))
    return [info.base_name for info in infos if info.type == fs.FileType.File]


@pytest.mark.parametrize("operation", ["write", "read", "move"])
def test_a_part_is_published_once_through_faults_at_every_step(place: str, operation: str) -> None:
    output = Folder.at(place)
    RunState(output).start()
    FlakyFileSystem.faults = {operation: [TimeoutError("timed out"), ConnectionResetError(104, "reset")]}
    part = publish_part(output, SCORES, TABLE, TABLE.schema, RECORD)
    assert part.num_rows == 3
    assert files_of(output) == ["part-00000-0000000000.parquet"]


def test_a_record_of_the_run_is_written_and_read_through_faults(place: str) -> None:
    state = RunState(Folder.at(place))
    state.start()
    FlakyFileSystem.faults = {"write": [TimeoutError("timed out")], "read": [TimeoutError("timed out")]}
    state.write("x.json", {"a": 1})
    assert state.read("x.json") == {"a": 1}


def test_a_full_disk_is_an_error_that_names_the_part_and_leaves_nothing_under_its_name(place: str) -> None:
    output = Folder.at(place)
    RunState(output).start()
    FlakyFileSystem.faults = {"write": [OSError(errno.ENOSPC, "No space left on device")] * 2}
    with pytest.raises(CommitError, match=r"scores/part-00000-0000000000.parquet cannot be written.*No space left"):
        publish_part(output, SCORES, TABLE, TABLE.schema, RECORD)
    assert len(FlakyFileSystem.faults["write"]) == 1
    assert files_of(output) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 512 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_run_on_a_disk_that_fills_up_stops_and_goes_on_when_there_is_room(tmp_path: Path, small_disk: Path) -> None:
    groups = random_groups(60, max_candidates=8)
    write(nested_table(groups), tmp_path / "in" / "a.parquet", row_group_size=3)
    job = SmallJob(str(tmp_path / "in"), str(small_disk / "out"), unit_pairs=12, top_n=None)
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(420_000))
    with pytest.raises(CommitError, match="cannot be written.*No space left on device"):
        job.run()
    finished = {path: path.read_bytes() for path in (small_disk / "out" / "scores").iterdir()}
    assert not (small_disk / "out" / "scores" / "_SUCCESS").exists()
    for path in finished:
        assert pq.read_table(path).num_rows > 0  # whole, as everything under a final name is
    assert [*(small_disk / "out" / "run" / "staging").iterdir()] == []
    ballast.unlink()
    job.run()
    assert kept_rows(small_disk / "out") == right_rows(groups, top_n=None)
    assert {path: path.read_bytes() for path in finished} == finished


def test_a_manifest_that_cannot_be_written_is_named(place: str) -> None:
    state = RunState(Folder.at(place))
    state.start()
    FlakyFileSystem.faults = {"write": [OSError(errno.ENOSPC, "No space left on device")]}
    with pytest.raises(CommitError, match="run/manifest.json cannot be written"):
        state.write(MANIFEST, {})
