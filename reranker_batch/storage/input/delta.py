"""The files that a table of Delta Lake has now."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from reranker_batch.errors import RerankerBatchError, first_line
from reranker_batch.storage.files.filesystem import is_inside, join
from reranker_batch.storage.files.walking import Entry, children
from reranker_batch.storage.input.partitions import partitions_of
from reranker_batch.storage.input.table_formats import Kind, TableFiles, missing_extra, refusal

if TYPE_CHECKING:
    from deltalake import DeltaTable

_KIND: Kind = "Delta Lake"
_LOG = "_delta_log"
_KNOWN_FEATURES = {"deletionVectors", "columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
_KNOWN_FEATURES |= {"typeWidening", "typeWidening-preview"}
"""Those that leave files as they are, or whose use is looked for."""
_THREADS = 16


def delta_files(filesystem: fs.FileSystem, folder: str) -> TableFiles:
    """The files of the newest version, by the table's log.

    Raises:
        ConfigError: The extra `delta` is not installed.
        InputError: The log cannot be read, or reading the files alone would give other rows or columns than the table.
    """
    try:
        from deltalake import DeltaTable
    except ImportError:
        raise missing_extra(folder, _KIND, "delta") from None
    try:
        with _log_on_this_machine(filesystem, folder) as local:
            table = DeltaTable(local)
            _refuse_features(table, folder)
            actions = pa.table(table.get_add_actions(flatten=False)).to_pylist()
    except RerankerBatchError:
        raise
    except Exception as error:  # the library has a class of its own for each of its parts
        raise refusal(folder, _KIND, f"Its log cannot be read: {first_line(error)}") from error
    return TableFiles(folder, _KIND, dict(_file(action, folder) for action in actions))


@contextmanager
def _log_on_this_machine(filesystem: fs.FileSystem, folder: str) -> Iterator[str]:
    """A folder with the log of the table. That of a store is copied, so that its own access rules and options count."""
    if isinstance(filesystem, fs.LocalFileSystem):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="reranker-batch-") as local:
        entries = list(_newest(filesystem, join(folder, _LOG)))

        def copy(entry: Entry) -> None:
            target = Path(local, _LOG, entry.path.rpartition(f"{_LOG}/")[2])
            target.parent.mkdir(parents=True, exist_ok=True)
            with filesystem.open_input_stream(entry.path) as source:
                target.write_bytes(source.read())

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(copy, entries))
        yield local


def _newest(filesystem: fs.FileSystem, log: str) -> Iterator[Entry]:
    """The last checkpoint and the commits since, all where there is no mark of one."""
    entries = children(filesystem, log)
    first = 0
    for entry in entries:
        if entry.path.endswith("/_last_checkpoint"):
            with filesystem.open_input_stream(entry.path) as source:
                first = int(json.loads(source.read())["version"])
    for entry in entries:
        version = re.match(r"\d{20}", entry.path.rpartition("/")[2])
        if entry.kind == "folder":
            yield from (child for child in children(filesystem, entry.path) if child.kind == "file")
        elif version is None or int(version[0]) >= first:
            yield entry


def _refuse_features(table: DeltaTable, folder: str) -> None:
    features = {*(table.protocol().reader_features or [])}
    mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise refusal(
            folder, _KIND, f"Its columns have other names in its files (delta.columnMapping.mode={mode}); rewrite it"
        )
    if unknown := features - _KNOWN_FEATURES:
        raise refusal(folder, _KIND, f"It has features that are not read: {', '.join(sorted(unknown))}")
    if "deletionVectors" in features and _has_deletion_vectors(table):
        raise refusal(
            folder,
            _KIND,
            "Some of its rows are deleted by deletion vectors, and its files still hold them. "
            "Run REORG TABLE … APPLY (PURGE) on it",
        )


def _has_deletion_vectors(table: DeltaTable) -> bool:
    """One that cannot be read is there too."""
    try:
        return bool(pa.table(table.deletion_vectors()).num_rows)
    except Exception:
        return True


def _file(action: dict[str, Any], folder: str) -> tuple[str, int]:
    path = unquote(action["path"])
    if not is_inside(path):
        raise refusal(folder, _KIND, f"Its file {path} lies outside of its folder, as in a shallow clone")
    shown = partitions_of("", path)
    for name, value in (action.get("partition") or {}).items():
        if name in shown and not _is_same(value, shown[name]):
            raise refusal(folder, _KIND, f"The folder of its file {path} does not have the value that its log has")
    return path, action["size_bytes"]


def _is_same(value: Any, shown: str | None) -> bool:
    """Whether a folder shows the value of a partition; of types that are written in several ways only whether null."""
    if value is None or shown is None:
        return value is None and shown is None
    if isinstance(value, bool):
        return str(value).lower() == shown.lower()
    is_plain = isinstance(value, str | int | Decimal) or type(value) is date
    return not is_plain or str(value) == shown
