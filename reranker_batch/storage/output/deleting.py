"""Deleting an output, in an order that leaves it whole or marked as being deleted, wherever the process ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import obstore
import pyarrow.fs as pafs

from reranker_batch.core.report import utc_now, utc_time
from reranker_batch.errors import CommitError, ConfigError, first_line
from reranker_batch.printing import listed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.output.lock import hold_lock
from reranker_batch.storage.output.lock_files import LockFiles
from reranker_batch.storage.output.parts import DEAD_LETTERS, MEMO, SCORES, part_name
from reranker_batch.storage.output.run_state import (
    DELETING,
    GATED,
    INPUT,
    MANIFEST,
    PAGE,
    PLAN,
    REPORT,
    REUSE,
    SUCCESS,
    RunState,
)

_PART_FOLDERS = (SCORES, MEMO, DEAD_LETTERS)
_RUN_FILES = (REPORT, PAGE, GATED, REUSE, PLAN, MANIFEST)
"""In the order in which they go."""
_LOCK = re.compile(r"lock\.\d+")
_AT_ONCE = 1_000


def delete_output(output: Folder, *, finished_at: datetime | None) -> None:
    """Delete an output whose last attempt ended at `finished_at`, or finish the deletion of one.

    `run/deleting.json` is written first. Then `scores/_SUCCESS` goes, the parts, the records, the lock, and last this
    mark.

    Raises:
        ConfigError: Files that no run wrote are inside; they are named, and nothing was deleted.
        LockedError: A run is at work on it.
        CommitError: It has changed since, or cannot be deleted.
    """
    state = RunState(output)
    with hold_lock(output) as lock:
        refuse_foreign(state)
        _refuse_changed(state, finished_at)
        if state.read(DELETING) is None:
            state.write(DELETING, {"begun_at": utc_now()})
        lock.confirm()
        state.withdraw()
        reached("deletion_begun")
        for folder in _PART_FOLDERS:
            _delete(output, folder, sorted(_names(output, folder)))
            _drop(output, folder)
        state.close()
        present = _names(output, "run")
        for name in _RUN_FILES:
            _delete(output, "run", [name] if name in present else [])
        if INPUT in present:
            _drop_tree(output, f"run/{INPUT}")
    _delete(output, "run", [DELETING])
    for folder in ("run", ""):
        _drop(output, folder)


def refuse_foreign(state: RunState) -> None:
    """Raises ConfigError for an output with files that no run wrote, or without the plan that says which it wrote."""
    units = state.read_units()
    if units is None and state.read(DELETING) is None:
        raise ConfigError(f"{state.output.uri} has no run/{PLAN}, so that its parts cannot be told from other files.")
    parts = {part_name(unit.unit_id) for unit in units or ()}
    known = {
        "": {"run", *_PART_FOLDERS},
        "run": {*_RUN_FILES, DELETING, "staging", INPUT},
        SCORES: parts | {SUCCESS},
        MEMO: parts,
        DEAD_LETTERS: parts,
    }
    foreign = [
        f"{folder}/{name}".lstrip("/")
        for folder, names in known.items()
        for name in sorted(_names(state.output, folder) - names)
        if not (folder == "run" and _LOCK.fullmatch(name))
    ]
    if foreign:
        raise ConfigError(f"{state.output.uri} holds files that no run wrote: {listed(foreign)}. Move them away.")


def _refuse_changed(state: RunState, finished_at: datetime | None) -> None:
    report = state.read(REPORT)
    if report is not None and state.read(DELETING) is None and utc_time(report["finished_at"]) != finished_at:
        raise CommitError(f"{state.output.uri} was worked on meanwhile, so it is not deleted.")


def _names(output: Folder, folder: str) -> set[str]:
    selector = pafs.FileSelector(output.child(folder) if folder else output.path, allow_not_found=True)
    try:
        infos = retried(lambda: output.filesystem.get_file_info(selector), f"Listing {output.uri}")
    except OSError as error:
        raise CommitError(f"{output.uri} cannot be listed: {error}") from error
    return {info.base_name for info in infos}


def _delete(output: Folder, folder: str, names: Sequence[str]) -> None:
    """Exactly these files, in requests for many at once where the store has them."""
    store = LockFiles.of(output).store
    for start in range(0, len(names), _AT_ONCE):
        paths = [f"{folder}/{name}" for name in names[start : start + _AT_ONCE]]
        try:
            obstore.delete(store, paths)
        except Exception as error:  # the store's own classes
            raise CommitError(f"{output.uri} cannot be deleted: {first_line(error)}.") from error
        reached("files_deleted")


def _drop_tree(output: Folder, folder: str) -> None:
    """A folder of our own with all that is in it."""
    try:
        with suppress(FileNotFoundError):
            output.filesystem.delete_dir(output.child(folder))
    except OSError as error:
        raise CommitError(f"{output.uri} cannot be deleted: {error}") from error


def _drop(output: Folder, folder: str) -> None:
    """A folder that is empty, with the marker that object stores have for it."""
    if _names(output, folder):
        return
    try:
        with suppress(FileNotFoundError):
            output.filesystem.delete_dir(output.child(folder) if folder else output.path)
    except OSError as error:
        raise CommitError(f"{output.uri} cannot be deleted: {error}") from error
