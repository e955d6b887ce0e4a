"""Which old outputs of a folder can go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from reranker_batch.core.report import utc_time
from reranker_batch.errors import CommitError, ConfigError, LockedError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import is_within
from reranker_batch.storage.output.deleting import delete_output, refuse_foreign
from reranker_batch.storage.output.latest import folders_in, links_in
from reranker_batch.storage.output.reuse_source import read_record
from reranker_batch.storage.output.run_state import MANIFEST, RunState
from reranker_batch.storage.output.status import SERVED, State, output_status

_NO_RUN = "no output of a run"
_UNFINISHED = ("running", "interrupted", "failed")


@dataclass
class Cleaned:
    """What `clean_outputs` did, or would do."""

    deleted: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Why, by output."""
    refused: dict[str, str] = field(default_factory=dict)
    """What keeps outputs that should go from being deleted."""


@dataclass(frozen=True)
class _Night:
    output: Folder
    name: str
    state: State | None
    message: str
    """Of the state, or why there is none."""
    finished_at: datetime | None = None
    needs: tuple[str, ...] = ()
    """The outputs whose scores this run reuses, and with which it will be compared."""

    @property
    def age(self) -> tuple[datetime, str]:
        assert self.finished_at is not None
        return self.finished_at, self.name


def clean_outputs(folder: str, *, keep: int, dry_run: bool = False) -> Cleaned:
    """Delete the outputs directly below `folder` that are older than its `keep` newest complete ones.

    A complete output stays if an unfinished run below `folder` needs it, or if a link in `folder` leads to
    it. Failed, interrupted and gated outputs go with the complete ones of their time: those that ended before the
    oldest complete one that stays. What runs, what was killed before it left a report, and all that no run wrote stays.
    An output with files of others inside is refused as a whole. A deletion that was interrupted is finished.

    Raises:
        ConfigError: `keep` is below 1, or `folder` is no folder of outputs.
    """
    if keep < 1:
        raise ConfigError(f"--keep {keep}: at least one complete output stays. Use 1 or more.")
    at = Folder.at(folder)
    nights = [_look(name, at.folder(name)) for name in folders_in(at)]
    cleaned = Cleaned()
    for night in _doomed(nights, links_in(at), keep, cleaned):
        _delete(night, cleaned, dry_run=dry_run)
    return cleaned


def _look(name: str, output: Folder) -> _Night:
    """Without the report, which may be large."""
    try:
        status = output_status(output.uri)
        needs = _needs(RunState(output)) if status.state in _UNFINISHED else ()
    except (CommitError, ConfigError) as error:
        return _Night(output, name, None, f"its records cannot be used: {error}")
    finished_at = None if status.report is None else utc_time(status.report.finished_at)
    return _Night(output, name, status.state, status.message, finished_at, needs)


def _needs(state: RunState) -> tuple[str, ...]:
    """Outputs that an unfinished run reads: whose scores it reuses, and what it will be compared with."""
    record, manifest = read_record(state), state.read(MANIFEST) or {}
    source = None if record is None or record.refused else record.source
    return tuple(place for place in (source, manifest.get("compared_with")) if isinstance(place, str))


def _doomed(nights: Sequence[_Night], links: Sequence[str], keep: int, cleaned: Cleaned) -> list[_Night]:
    """Those to delete, the oldest first; `cleaned` gets the others with why they stay."""
    complete = sorted((night for night in nights if night.state in SERVED), key=_age, reverse=True)
    newest = {night.name for night in complete[:keep]}
    oldest_kept = complete[keep - 1].age if len(complete) >= keep else None
    doomed = []
    for night in nights:
        why = f"one of the {keep} newest complete outputs" if night.name in newest else _why_kept(night, oldest_kept)
        if why := why or _needed_by(night, nights, links):
            cleaned.kept[night.output.uri] = why
        else:
            doomed.append(night)
    return sorted(doomed, key=lambda night: (night.finished_at is not None, night.finished_at, night.name))


def _age(night: _Night) -> tuple[datetime, str]:
    return night.age


def _why_kept(night: _Night, oldest_kept: tuple[datetime, str] | None) -> str:
    """Why an output that is none of the newest stays, '' where it can go as far as its own records tell."""
    if night.state is None:
        return night.message
    state = night.state.replace("_", " ")
    if night.state == "deleting":
        return ""
    if night.state == "no_run":
        return _NO_RUN
    if night.state == "running":
        return f"running: {night.message}"
    if night.finished_at is None:
        return f"{state}, and no report says when. Delete it by hand if it is not needed"
    if oldest_kept is None or night.age > oldest_kept:
        return f"{state}, and not older than the complete outputs that stay"
    return ""


def _needed_by(night: _Night, nights: Sequence[_Night], links: Sequence[str]) -> str:
    if night.state == "deleting":
        return ""
    for other in nights:
        if any(is_within(place, night.output.uri) for place in other.needs):
            return f"{other.output.uri} needs it and is {other.state}"
    target = next((link for link in links if is_within(os.path.realpath(link), night.output.uri)), None)
    return "" if target is None else f"the link {target} leads to it"


def _delete(night: _Night, cleaned: Cleaned, *, dry_run: bool) -> None:
    try:
        if dry_run:
            refuse_foreign(RunState(night.output))
        else:
            delete_output(night.output, finished_at=night.finished_at)
    except LockedError as error:
        cleaned.kept[night.output.uri] = f"running: {error}"
    except (ConfigError, CommitError) as error:
        cleaned.refused[night.output.uri] = str(error)
    else:
        cleaned.deleted.append(night.output.uri)
