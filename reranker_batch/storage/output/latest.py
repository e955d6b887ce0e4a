"""The newest complete output below a folder that has one output a night."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyarrow import fs

from reranker_batch.core.mapping import in_threads
from reranker_batch.core.report import utc_time
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import is_within
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.files.walking import Entry, children
from reranker_batch.storage.output.parts import SCORES
from reranker_batch.storage.output.run_state import MANIFEST, REPORT, SUCCESS, RunState
from reranker_batch.storage.output.status import output_status
from reranker_batch.uris import LATEST, latest_folder

logger = logging.getLogger(__name__)

_SOON = timedelta(minutes=5)
_CLOCKS_DIFFER_BY = timedelta(hours=6)
"""Those of the machine that ran and of the store, at most."""


@dataclass(frozen=True)
class MarkedOutput:
    """An output with a success marker and a report, which has not been read."""

    output: Folder
    name: str
    written_at: datetime
    """When the store got the report: after the run had ended, by the clock of the store."""


def named_output(value: str, *, exclude: str | None = None) -> str | None:
    """The output that a config value names: a place, or `latest:FOLDER`; None where FOLDER has none yet.

    Raises:
        ConfigError: `latest:` is followed by no folder of outputs.
    """
    folder = latest_folder(value)
    return value if folder is None else latest_output(folder, exclude=exclude)


def latest_output(folder: str, *, exclude: str | None = None) -> str | None:
    """The complete or accepted output directly below `folder` whose run ended last; None where there is none.

    Outputs are looked for one level down, never deeper. Links are not followed, since they may lead elsewhere when a
    run is resumed. `exclude` is the output of the run that asks. What runs, failed or is gated does not count. An
    output whose records cannot be read is left out with a warning. Of equal times the name that sorts last counts.
    Reports are read from the newest file on, and only as many as can be the newest.

    Raises:
        ConfigError: `folder` is no folder, is an output itself, or cannot be listed.
    """
    if not folder.strip():
        raise ConfigError(f"{LATEST} needs the folder of the outputs behind it, such as {LATEST}out/nightly.")
    newest: tuple[datetime, str, Folder] | None = None
    for marked in sorted(_marked_outputs(Folder.at(folder), exclude), key=lambda one: one.written_at, reverse=True):
        if newest is not None and marked.written_at + _CLOCKS_DIFFER_BY < newest[0]:
            break
        finished_at = _finished_at(marked.output)
        if finished_at is not None and (newest is None or (finished_at, marked.name) > newest[:2]):
            newest = finished_at, marked.name, marked.output
    if newest is None:
        return None
    _warn_of_clock(newest[0], newest[2])
    return newest[2].uri


def _marked_outputs(folder: Folder, exclude: str | None) -> list[MarkedOutput]:
    outputs = [(name, folder.folder(name)) for name in folders_in(folder)]
    others = [item for item in outputs if exclude is None or not is_within(item[1].uri, exclude)]
    return [marked for marked in in_threads(_marked, others) if marked is not None]


def folders_in(folder: Folder) -> list[str]:
    """Names of the folders directly below, links left out; nothing where there is no such folder.

    Raises:
        ConfigError: `folder` is no folder, is an output itself, or cannot be listed.
    """
    entries = _entries(folder)
    return [os.path.basename(entry.path) for entry in entries if entry.kind == "folder" and not _is_link(folder, entry)]


def links_in(folder: Folder) -> list[str]:
    """Paths of the links directly below; see `folders_in`."""
    return [entry.path for entry in _entries(folder) if _is_link(folder, entry)]


def _entries(folder: Folder) -> list[Entry]:
    try:
        is_file = retried(lambda: folder.filesystem.get_file_info(folder.path), f"Reading {folder.uri}").is_file
        entries = retried(lambda: children(folder.filesystem, folder.path), f"Listing {folder.uri}")
        is_output = RunState(folder).read(MANIFEST) is not None
    except OSError as error:
        raise ConfigError(f"{folder.uri} cannot be listed: {error}") from error
    except CommitError:  # a damaged manifest is one as well
        is_output = True
    if is_file:
        raise ConfigError(f"{folder.uri} is a file. Give the folder that holds the output folders.")
    if is_output:
        raise ConfigError(f"{folder.uri} is an output itself. Give the folder that holds the output folders.")
    return entries


def _is_link(folder: Folder, entry: Entry) -> bool:
    return isinstance(folder.filesystem, fs.LocalFileSystem) and os.path.islink(entry.path)


def _marked(item: tuple[str, Folder]) -> MarkedOutput | None:
    name, output = item
    paths = [output.child(SCORES, SUCCESS), RunState(output).path_of(REPORT)]
    try:
        marker, report = retried(lambda: output.filesystem.get_file_info(paths), f"Reading {output.uri}")
    except OSError as error:
        raise ConfigError(f"{output.uri} cannot be read: {error}") from error
    if not (marker.is_file and report.is_file):
        return None
    return MarkedOutput(output, name, report.mtime or datetime.max.replace(tzinfo=UTC) - _CLOCKS_DIFFER_BY)


def _finished_at(output: Folder) -> datetime | None:
    """When its run ended; None where it is not to be served, which the log says."""
    try:
        status = output_status(output.uri)
    except (CommitError, ConfigError) as error:
        logger.warning("%s is left out: %s", output.uri, error)
        return None
    if not status.is_served or status.report is None:
        logger.warning("%s is left out: %s. %s", output.uri, status.state.replace("_", " "), status.message)
        return None
    return utc_time(status.report.finished_at)


def _warn_of_clock(finished_at: datetime, output: Folder) -> None:
    if finished_at > datetime.now(UTC) + _SOON:
        logger.warning(
            "%s ended at %s, which is still to come by the clock of this machine. It counts as the newest until then.",
            output.uri,
            finished_at.isoformat(),
        )
