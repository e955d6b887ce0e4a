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
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.output.run_state import MANIFEST, REPORT, RunState
from reranker_batch.storage.output.status import output_status
from reranker_batch.storage.places import is_within
from reranker_batch.storage.retrying import retried
from reranker_batch.storage.walking import Entry, children
from reranker_batch.uris import LATEST, latest_folder

logger = logging.getLogger(__name__)

_CLOCKS_DIFFER_BY = timedelta(minutes=5)


@dataclass(frozen=True)
class MarkedOutput:
    """An output with a success marker."""

    output: Folder
    name: str
    finished_at: datetime

    @property
    def age(self) -> tuple[datetime, str]:
        """Sorts by the time of the run's end. Of equal times the name that sorts last is the newest."""
        return self.finished_at, self.name


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
    output whose records cannot be read is left out with a warning.

    Raises:
        ConfigError: `folder` is no folder, is an output itself, or cannot be listed.
    """
    if not folder.strip():
        raise ConfigError(f"{LATEST} needs the folder of the outputs behind it, such as {LATEST}out/nightly.")
    for marked in sorted(marked_outputs(Folder.at(folder), exclude=exclude), key=lambda one: one.age, reverse=True):
        if _is_served(marked):
            _warn_of_clock(marked)
            return marked.output.uri
    return None


def marked_outputs(folder: Folder, *, exclude: str | None = None) -> list[MarkedOutput]:
    """The outputs directly below `folder` that have a success marker, in no order. Their other records are not read.

    Raises:
        ConfigError: See `latest_output`.
    """
    outputs = {name: folder.folder(name) for name in folders_in(folder)}
    others = [item for item in outputs.items() if exclude is None or not is_within(item[1].uri, exclude)]
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
    state = RunState(output)
    try:
        report = state.read(REPORT) if state.is_complete else None
        return None if report is None else MarkedOutput(output, name, utc_time(report["finished_at"]))
    except (CommitError, ConfigError, TypeError, ValueError) as error:
        logger.warning("%s is left out, since its run/%s cannot be used: %s", output.uri, REPORT, error)
        return None


def _is_served(marked: MarkedOutput) -> bool:
    try:
        status = output_status(marked.output.uri)
    except (CommitError, ConfigError) as error:
        logger.warning("%s is left out: %s", marked.output.uri, error)
        return False
    if not status.is_served:
        logger.warning("%s is left out: %s. %s", marked.output.uri, status.state.replace("_", " "), status.message)
    return status.is_served


def _warn_of_clock(marked: MarkedOutput) -> None:
    if marked.finished_at > datetime.now(UTC) + _CLOCKS_DIFFER_BY:
        logger.warning(
            "%s ended at %s, which is still to come by the clock of this machine. It counts as the newest until then.",
            marked.output.uri,
            marked.finished_at.isoformat(),
        )
