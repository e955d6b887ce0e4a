"""The files of a lock and the processes they name."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, S3Store, from_url
from pyarrow import fs
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from reranker_batch.errors import CommitError, ConfigError, RerankerBatchError, first_line
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.uris import options_of, scheme_of, split_options

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

_PREFIX = "run/lock."
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_LARGEST_BYTES = 1 << 16
_CONNECT_TIMEOUT, _REQUEST_TIMEOUT = timedelta(seconds=5), timedelta(seconds=15)
_RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}

ShortText = Annotated[str, Field(max_length=300)]


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    run_id: ShortText
    host: ShortText
    machine: ShortText
    pid: Annotated[int, Field(ge=1, lt=1 << 31)]
    start_ticks: Annotated[int, Field(ge=0)] | None
    """Clock ticks from the machine's boot to the start of the process, None where the machine does not tell.

    With the pid this names a process: pids are used again, and a time of day moves when the clock is set.
    """
    started: ShortText
    took_over: ShortText | None = None
    beat: Annotated[int, Field(ge=0)] = 0

    @classmethod
    def this_process(cls, run_id: str, *, took_over: str | None) -> Owner:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        pid = os.getpid()
        return cls(run_id, socket.gethostname(), this_machine() or "", pid, start_ticks(pid), now, took_over)

    @property
    def is_running(self) -> bool | None:
        """None where it cannot be told from here: on another machine, or where processes of others are hidden."""
        if not self.machine or self.machine != this_machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it exists, and is another user's
            pass
        ticks = start_ticks(self.pid)
        if ticks is None or self.start_ticks is None:
            return None
        return ticks == self.start_ticks and not _is_zombie(self.pid)

    def __str__(self) -> str:
        return f"run {self.run_id} on host {self.host}, process {self.pid}, started {self.started}"


_OWNER = TypeAdapter(Owner)


@lru_cache(maxsize=1)
def this_machine() -> str | None:
    """Equal for two processes exactly when each can see the other: same host, same boot, same pid namespace.

    None where the machine does not tell.
    """
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot_id} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where `/proc` does not tell."""
    fields = _stat_of(pid)
    return int(fields[19]) if fields is not None else None


def _is_zombie(pid: int) -> bool:
    fields = _stat_of(pid)
    return fields is not None and fields[0] in ("Z", "X")


def _stat_of(pid: int) -> list[str] | None:
    """The fields of `/proc/PID/stat` behind the name, which may hold spaces and brackets."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return content.rpartition(")")[2].split()


@dataclass(frozen=True)
class HeldLock:
    """A lock as it stood."""

    number: int
    owner: Owner | None
    """None where the file says nothing that can be read."""
    modified: datetime

    @property
    def age_s(self) -> float:
        """By the clocks of this machine and of the store; below zero where they differ."""
        return (datetime.now(UTC) - self.modified).total_seconds()

    def is_same(self, other: HeldLock | None) -> bool:
        """Whether nothing has happened to it since."""
        return other is not None and (other.owner, other.modified) == (self.owner, self.modified)

    def __str__(self) -> str:
        owner = f"{self.owner}" if self.owner else "a run whose lock file cannot be read"
        return f"{owner}, last heartbeat {max(0.0, self.age_s):.0f} s ago"


@dataclass(frozen=True)
class LockFiles:
    """The files `run/lock.N` of an output, on whatever store it is."""

    store: ObjectStore
    uri: str
    new_folders: tuple[str, ...] = field(default=())
    """Local folders that are there for the lock alone, innermost first."""

    @classmethod
    def of(cls, output: Folder) -> LockFiles:
        """Raises ConfigError for a store that has no create-if-absent write, CommitError for an unusable one."""
        filesystem, path = output.filesystem, output.path
        if isinstance(filesystem, fs.LocalFileSystem):
            run = Path(path) / "run"
            missing = tuple(str(folder) for folder in (run, *run.parents) if not folder.exists())
            with _named(output.uri):
                return cls(LocalStore(prefix=path, mkdir=True), output.uri, missing)
        scheme = scheme_of(output.uri)
        if scheme not in _STORES:
            raise ConfigError(
                f"output.path={output.uri}: {scheme}:// has no create-if-absent write, so two runs could mix there. "
                "Use a local folder, s3://, gs:// or abfss://."
            )
        with _named(output.uri):
            return cls(_object_store(output.uri, filesystem), output.uri)

    def all(self) -> list[HeldLock]:
        with _named(self.uri):
            listed = obstore.list_with_delimiter(self.store, "run")["objects"]
        names = [entry["path"].removeprefix(_PREFIX) for entry in listed if entry["path"].startswith(_PREFIX)]
        locks = [self.read(int(name)) for name in names if _NUMBER.fullmatch(name)]
        return sorted((lock for lock in locks if lock is not None), key=lambda lock: lock.number)

    def newest(self) -> HeldLock | None:
        return next(reversed(self.all()), None)

    def read(self, number: int) -> HeldLock | None:
        with _named(self.uri):
            try:
                answer = obstore.get(self.store, f"{_PREFIX}{number}")
                is_ours = answer.meta["size"] <= _LARGEST_BYTES
                owner = _owner_of(bytes(answer.bytes())) if is_ours else None
                return HeldLock(number, owner, answer.meta["last_modified"])
            except FileNotFoundError:
                return None

    def create(self, number: int, owner: Owner) -> bool:
        """False when the file is there already."""
        with _named(self.uri):
            try:
                obstore.put(self.store, f"{_PREFIX}{number}", _content(owner), mode="create")
            except AlreadyExistsError:
                return False
        return True

    def write(self, number: int, owner: Owner) -> None:
        with _named(self.uri):
            obstore.put(self.store, f"{_PREFIX}{number}", _content(owner), mode="overwrite")

    def remove(self, number: int) -> None:
        with _named(self.uri), suppress(FileNotFoundError):
            obstore.delete(self.store, f"{_PREFIX}{number}")

    def remove_up_to(self, number: int) -> None:
        for lock in self.all():
            if lock.number <= number:
                self.remove(lock.number)

    def remove_empty_folders(self) -> None:
        """A run that was refused leaves no folder behind."""
        for folder in self.new_folders:
            try:
                os.rmdir(folder)
            except OSError:
                return


def _object_store(uri: str, filesystem: Any) -> ObjectStore:
    """The store behind a URI, reached as pyarrow reaches it: same region, same endpoint."""
    plain, given = split_options(uri)[0], options_of(uri)
    client: ClientConfig = {"connect_timeout": _CONNECT_TIMEOUT, "timeout": _REQUEST_TIMEOUT}
    if not isinstance(filesystem, fs.S3FileSystem):
        return from_url(plain.replace("gcs://", "gs://", 1), client_options=client, retry_config=_RETRY)
    config: S3Config = {"region": filesystem.region or "us-east-1"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" in given:
        address, scheme = given["endpoint_override"], given.get("scheme", "https")
        endpoint = address if "://" in address else f"{scheme}://{address}"
    if endpoint:
        config["endpoint"] = endpoint
    client["allow_http"] = (endpoint or "").startswith("http://")
    bucket, _, prefix = plain.partition("://")[2].partition("/")
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options=client,
        retry_config=_RETRY,
        credential_provider=_profile_credentials(),
    )


def _profile_credentials() -> Any:
    """Credentials of a profile, which obstore itself does not read; boto3 does, where it is installed."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    except (ImportError, ValueError):
        return None


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Errors of the store, of its client and of what finds its credentials."""
    try:
        yield
    except RerankerBatchError:
        raise
    except Exception as error:
        raise CommitError(f"The lock in {uri}/run cannot be used: {first_line(error)}.") from error


def _content(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _owner_of(content: bytes) -> Owner | None:
    try:
        return _OWNER.validate_json(content)
    except ValidationError:
        return None
