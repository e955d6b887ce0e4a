"""run/report.html: written from run/report.json at the end of a run, and again on request."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from reranker_batch.errors import CommitError, ConfigError, described
from reranker_batch.page.document import page_of
from reranker_batch.storage.output.gate import read_gate
from reranker_batch.storage.output.run_state import PAGE, REPORT, RunState

logger = logging.getLogger(__name__)


def write_page(state: RunState, extra: Mapping[str, Any] | None = None) -> str:
    """Write the page of an output and return its place. A page that is there with the same bytes stays as it is.

    `extra` are values that the page shows in place of those of the report.

    Raises:
        ConfigError: There is no report.
        CommitError: The report or the gate cannot be read, or the page cannot be written.
    """
    report = state.report()
    if report is None:
        raise ConfigError(f"{state.output.uri}: there is no run/{REPORT} to make a page from.")
    try:
        content = page_of({**report.to_dict(), **(extra or {})}, read_gate(state))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        path = state.path_of(REPORT)
        raise CommitError(f"{path} has values that this program does not write: {described(error)}") from error
    if state.content(PAGE) != content:
        state.write_content(PAGE, content)
    return state.path_of(PAGE)


def try_to_write_page(state: RunState) -> None:
    """Write the page of a run; where that fails, the log says why. A run does not fail because of its page."""
    try:
        write_page(state)
    except Exception as error:
        logger.warning("There is no page of this run: %s", described(error))
