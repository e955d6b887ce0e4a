"""The files of a lock and the processes they name."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import psutil
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store, from_url
from pyarrow import fs

from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.filesystem import Folder, split_options

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, S3Config

_PREFIX = "run/lock."
_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
_CLOCK_TICK_S = 1.0


@dataclass(frozen=True)
class Owner:
    """The process that holds a lock."""

    run_id: str
    host: str
    machine: str
    pid: int
    process_started: float
    """With the pid this names a process; pids alone are used again."""
    started: str
    took_over: str | None = None
    beat: int = 0

    @classmethod
    def this_process(cls, run_id: str, *, took_over: str | None) -> Owner:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        process = psutil.Process()
        return cls(run_id, socket.gethostname(), this_machine(), process.pid, process.create_time(), now, took_over)

    @property
    def is_of_this_machine(self) -> bool:
        return self.machine == this_machine()

    @property
    def is_running(self) -> bool:
        """Only for a process of this machine."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.process_started) <= _CLOCK_TICK_S
            return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True

    def __str__(self) -> str:
        return f"run {self.run_id} on host {self.host}, process {self.pid}, started {self.started}"


@lru_cache(maxsize=1)
def this_machine() -> str:
    """Equal for two processes exactly when each can see the other: same host, same boot, same pid namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


@dataclass(frozen=True)
class HeldLock:
    """A lock as it was found."""

    number: int
    owner: Owner | None
    """None where the file says nothing that can be read."""
    modified: datetime

    @property
    def age_s(self) -> float:
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
        scheme = output.uri.partition("://")[0].lower()
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
        found = [self.read(int(name)) for name in names if name.isdigit()]
        return sorted((held for held in found if held is not None), key=lambda held: held.number)

    def newest(self) -> HeldLock | None:
        return next(reversed(self.all()), None)

    def read(self, number: int) -> HeldLock | None:
        with _named(self.uri):
            try:
                found = obstore.get(self.store, f"{_PREFIX}{number}")
                return HeldLock(number, _owner_of(bytes(found.bytes())), found.meta["last_modified"])
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
        for held in self.all():
            if held.number <= number:
                self.remove(held.number)

    def remove_empty_folders(self) -> None:
        """A run that was refused leaves no folder behind."""
        for folder in self.new_folders:
            try:
                os.rmdir(folder)
            except OSError:
                return


def _object_store(uri: str, filesystem: Any) -> ObjectStore:
    """The store behind a URI, reached as pyarrow reaches it: same region, same endpoint."""
    plain, options = split_options(uri)
    if not isinstance(filesystem, fs.S3FileSystem):
        return from_url(plain.replace("gcs://", "gs://", 1))
    given = dict(option.split("=", 1) for option in options.removeprefix("?").split("&") if option)
    config: S3Config = {"region": filesystem.region or "us-east-1"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" in given:
        address, scheme = given["endpoint_override"], given.get("scheme", "https")
        endpoint = address if "://" in address else f"{scheme}://{address}"
    if endpoint:
        config["endpoint"] = endpoint
    options_of_client: ClientConfig = {"allow_http": (endpoint or "").startswith("http://")}
    bucket, _, prefix = plain.partition("://")[2].partition("/")
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options=options_of_client,
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
    try:
        yield
    except (BaseError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CommitError(f"The lock in {uri}/run cannot be used: {reason}") from error


def _content(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _owner_of(content: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (TypeError, ValueError):
        return None
