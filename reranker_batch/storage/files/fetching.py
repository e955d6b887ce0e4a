"""Folders of a store, copied to this machine once for all its processes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pyarrow import fs

from reranker_batch.core.copies import FolderCopy
from reranker_batch.errors import ModelError, first_line
from reranker_batch.storage.files.filesystem import is_inside, join, resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.files.walking import relative, walk
from reranker_batch.uris import shown_uri, split_options

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "RERANKER_BATCH_CACHE"
"""Environment: the folder of the copies."""
_PIECE_BYTES = 8 << 20
_THREADS = 4
_KEY_DIGITS = 20


@dataclass(frozen=True)
class _StoredFile:
    """A file of the store; `state` is what the store calls its content, or when it was written."""

    size_bytes: int
    state: str


def copy_folder(
    uri: str, *, part: str, is_wanted: Callable[[str], bool], decides: Callable[[str], bool], version: str | None
) -> FolderCopy:
    """See `CopyFolder`. A copy appears whole under its name or not at all; one that is there is not asked for again.

    The first of several processes copies and the others wait for it; if it dies, the next one begins anew.
    """
    filesystem, path = resolve(uri)
    if isinstance(filesystem, fs.LocalFileSystem):
        return FolderCopy(Path(path), None)
    if version is None or not _place(uri, version, part).is_dir():
        files = _stored(filesystem, path, decides, uri)
        present = _version_of(files)
        if version not in (None, present):
            raise ModelError(
                f"The files of model {uri} are not those that the run was planned with, so two models would be mixed "
                "in one output. Put the planned files back, or start a new run with another output."
            )
        version = present
        if _place(uri, version, part).is_dir():
            return FolderCopy(_place(uri, version, part), version)
        wanted = {name: file for name, file in files.items() if is_wanted(name)}
        _copy_once(filesystem, path, wanted, _place(uri, version, part), uri)
    return FolderCopy(_place(uri, version, part), version)


def _cache() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path("~/.cache").expanduser()) / "reranker-batch" / "models"


def _place(uri: str, version: str, part: str) -> Path:
    """By the place in the store without its options, so that it is the same however it is reached."""
    place = hashlib.sha256(split_options(uri)[0].rstrip("/").encode()).hexdigest()
    return _cache() / f"{place[:_KEY_DIGITS]}-{version[:_KEY_DIGITS]}-{part}"


def _stored(filesystem: fs.FileSystem, path: str, decides: Callable[[str], bool], uri: str) -> dict[str, _StoredFile]:
    try:
        entries = retried(lambda: walk(filesystem, path, into_hidden=True).entries, f"Listing {shown_uri(uri)}")
        files = {relative(entry.path, path): entry for entry in entries if entry.kind == "file"}
        names = sorted(name for name in files if is_inside(name) and decides(name))
        with ThreadPoolExecutor(_THREADS) as pool:
            states = list(pool.map(lambda name: _state(filesystem, files[name].path, files[name].modified_ns), names))
    except OSError as error:
        raise ModelError(f"Model {uri} cannot be read: {first_line(error)}. Check model.name.") from error
    if not names:
        seen = f"it holds {', '.join(sorted(files)[:5])}" if files else "nothing is there"
        raise ModelError(f"Model {uri} has no file of a model: {seen}. Set model.name.")
    return {name: _StoredFile(files[name].size_bytes or 0, state) for name, state in zip(names, states, strict=True)}


def _state(filesystem: fs.FileSystem, path: str, modified_ns: int | None) -> str:
    """The tag of the content where the store gives one, else the time."""
    if isinstance(filesystem, fs.PyFileSystem) and isinstance(filesystem.handler, fs.FSSpecHandler):
        return str(filesystem.handler.fs.ukey(path))
    with filesystem.open_input_stream(path) as source:
        tag = _tag(source)
    return tag or str(modified_ns)


def _tag(source: object) -> str | None:
    metadata: Mapping[object, object] = source.metadata() or {}  # type: ignore[attr-defined]
    tags = {str(name).lower(): value for name, value in metadata.items()}
    tag = tags.get("etag")
    return tag.decode(errors="replace") if isinstance(tag, bytes) else None


def _version_of(files: Mapping[str, _StoredFile]) -> str:
    states = {name: asdict(file) for name, file in files.items()}
    return hashlib.sha256(json.dumps(states, sort_keys=True).encode()).hexdigest()


def _copy_once(filesystem: fs.FileSystem, path: str, files: Mapping[str, _StoredFile], target: Path, uri: str) -> None:
    try:
        with _locked(target):
            if target.is_dir():
                return
            size_mib = sum(file.size_bytes for file in files.values()) >> 20
            logger.info("copying %d files (%d MiB) of %s to %s", len(files), size_mib, shown_uri(uri), target)
            staged = target.with_name(f".{target.name}.part")
            shutil.rmtree(staged, ignore_errors=True)  # of a process that died
            try:
                _copy_all(filesystem, path, files, staged)
                staged.rename(target)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"Model {uri} cannot be copied to {target.parent}: {first_line(error)}. Check the store and the space on "
            f"this machine, or set {CACHE_VARIABLE} to another folder."
        ) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """The system gives the lock back when the process ends, however it ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy_all(filesystem: fs.FileSystem, path: str, files: Mapping[str, _StoredFile], staged: Path) -> None:
    def copy(name: str) -> None:
        retried(lambda: _copy(filesystem, join(path, name), files[name], staged / name), f"Copying {name}")

    staged.mkdir()
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(copy, sorted(files, key=lambda name: -files[name].size_bytes)))


def _copy(filesystem: fs.FileSystem, source_path: str, file: _StoredFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with filesystem.open_input_stream(source_path) as source, target.open("wb") as sink:
        tag = _tag(source)
        while piece := source.read(_PIECE_BYTES):
            sink.write(piece)
    size_bytes = target.stat().st_size
    if size_bytes != file.size_bytes or tag not in (None, file.state):
        raise ModelError(
            f"{source_path} was changed while it was copied: {size_bytes:,} bytes came and {file.size_bytes:,} were "
            "listed, or its content is another one. Start again."
        )
