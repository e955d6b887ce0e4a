"""run/report.html: written from run/report.json at the end of a run, and again on request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from reranker_batch.core.report import RunReport
from reranker_batch.errors import CommitError, ConfigError, described
from reranker_batch.page.comparison import compared
from reranker_batch.page.document import page_of
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.acceptance import accept_output
from reranker_batch.storage.output.gate import Gate, read_gate
from reranker_batch.storage.output.lock import hold_lock, living_lock
from reranker_batch.storage.output.run_state import PAGE, REPORT, RunState

logger = logging.getLogger(__name__)


def write_page(state: RunState, extra: Mapping[str, Any] | None = None) -> str:
    """Write the page of an output and return its place. A page that is there with the same bytes stays as it is.

    `extra` are values that the page shows in place of those of the report.

    Raises:
        ConfigError: There is no report.
        CommitError: The report or the gate cannot be read, or the page cannot be written.
    """
    report = require_report(state)
    try:
        content = page_of({**report.to_dict(), **(extra or {})}, read_gate(state))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        path = state.path_of(REPORT)
        raise CommitError(f"{path} has values that this program does not write: {described(error)}") from error
    if state.content(PAGE) != content:
        state.write_content(PAGE, content)
    return state.path_of(PAGE)


def make_page(output: str, *, compare: str | None = None, qrels: str | None = None) -> str:
    """Make the page of an output that no run is at work on, and return its place.

    With `compare`, a finished output, it shows what moved since; with `qrels` metrics by relevance judgments. Both
    are computed for the page alone: the report stays as it is.

    Raises:
        ConfigError: There is no report, or the run was killed before it wrote one. An output is not finished, or
            ir-measures is not installed.
        InputError: The judgments cannot be read.
        LockedError: A run is at work on the output.
        CommitError: Something cannot be read or written.
    """
    state = RunState(Folder.at(output))
    require_report(state)
    if state.has_lock_files and living_lock(state.output) is None:
        raise ConfigError(f"{output}: its last run was killed and left no report. The same `run` command resumes it.")
    extra = compared(state.output, compare=compare, qrels=qrels)
    with hold_lock(state.output):
        place = write_page(state, extra)
        state.close()
    return place


def accept(path: str, *, by: str | None = None) -> Gate:
    """Let a finished output be served although its run ended with exit code 3 or 4: write who accepts it into
    `run/gated.json`, then `scores/_SUCCESS`, then the page again.

    `by` is the name of the operating system's user where it is not given. The output is verified first. Interrupted
    between these, the same call finishes.

    Raises:
        ConfigError: There is no finished output to accept, or `by` is empty.
        LockedError: A run is at work on it.
        CommitError: The output is not what its record says, or cannot be written.
    """
    gate = accept_output(path, by=by)
    _tried(lambda: make_page(path))
    return gate


def require_report(state: RunState) -> RunReport:
    """Raises ConfigError where there is none."""
    if (report := state.report()) is None:
        raise ConfigError(f"{state.output.uri}: there is no run/{REPORT} to make a page from.")
    return report


def try_to_write_page(state: RunState) -> None:
    """Write the page of a run; where that fails, the log says why. A run does not fail because of its page."""
    _tried(lambda: write_page(state))


def _tried(write: Callable[[], str]) -> None:
    try:
        write()
    except Exception as error:
        logger.warning("There is no page of this run: %s", described(error))
