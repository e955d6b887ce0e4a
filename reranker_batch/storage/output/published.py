"""Which units of a run are done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reranker_batch.core.mapping import Mapper, in_threads
from reranker_batch.core.report import PartEntry
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.parts import (
    DEAD_LETTERS,
    MEMO,
    SCORES,
    PublishedPart,
    check_dead_letters,
    check_memo,
    part_name,
    read_part,
)
from reranker_batch.storage.output.run_state import RunState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedPart:
    """A unit's part as the records tell of it, before it is read."""

    unit_id: str
    reported: PartEntry | None
    """Where the report of an earlier attempt lists it."""
    has_dead_letters: bool
    """Whether there is a file with dead letters."""
    has_memo: bool
    """Whether there is a memo."""


@dataclass(frozen=True)
class PublishedFiles:
    """The names in `scores/`, `dead_letters/` and `memo/`, listed once."""

    parts: set[str]
    dead_letters: set[str]
    memo: set[str]

    @classmethod
    def of(cls, state: RunState) -> PublishedFiles:
        return cls(state.part_names(), state.dead_letter_names(), state.memo_names())

    def foreign(self, unit_ids: Iterable[str]) -> list[str]:
        """Files that belong to no unit, as paths within the output."""
        known = {part_name(unit_id) for unit_id in unit_ids}
        folders = {SCORES: self.parts, DEAD_LETTERS: self.dead_letters, MEMO: self.memo}
        return sorted(f"{folder}/{name}" for folder, names in folders.items() for name in names - known)

    def recorded(self, unit_ids: Iterable[str], reported: Mapping[str, PartEntry]) -> list[RecordedPart]:
        return [
            RecordedPart(unit_id, reported.get(unit_id), name in self.dead_letters, name in self.memo)
            for unit_id, name in ((unit_id, part_name(unit_id)) for unit_id in unit_ids)
        ]


def published_files(state: RunState, units: Sequence[WorkUnit]) -> PublishedFiles:
    """The files of a run that may have begun.

    Raises:
        CommitError: A file in one of these folders belongs to no unit of the plan.
    """
    files = PublishedFiles.of(state)
    if foreign := files.foreign(unit.unit_id for unit in units):
        raise CommitError(f"{state.output.child(foreign[0])} belongs to no unit of this run. Move it away.")
    return files


def published_parts(
    state: RunState, files: PublishedFiles, units: Sequence[WorkUnit], *, fingerprint: str, each: Mapper = in_threads
) -> Iterator[PublishedPart]:
    """Yield the parts of the units that are done, in the order of their ids; all others have to be computed.

    Done is a unit whose part, dead letters and memo are whole, of these settings, and those that the part itself and
    the report of an earlier attempt record. Where one is not, the log says why, and it counts as not done.
    """
    unit_ids = sorted(unit.unit_id for unit in units if part_name(unit.unit_id) in files.parts)
    recorded = files.recorded(unit_ids, state.reported_parts())
    for part in each(PartReader(state.output, fingerprint), recorded):
        if isinstance(part, CommitError):
            logger.warning("%s It is computed again.", part)
        else:
            yield part


@dataclass(frozen=True)
class PartReader:
    """Reads the part of a unit; the error, where it is not what the records tell, is its result."""

    output: Folder
    fingerprint: str

    def __call__(self, recorded: RecordedPart) -> PublishedPart | CommitError:
        try:
            return read_unit_parts(self.output, recorded, fingerprint=self.fingerprint)
        except CommitError as error:
            return error


def read_unit_parts(
    output: Folder, recorded: RecordedPart, *, fingerprint: str, keep_rows: bool = False
) -> PublishedPart:
    """Read the part, the dead letters and the memo of one unit and compare them with what is on record.

    Raises:
        CommitError: One of them is missing, damaged, of other settings, or not the file that was published.
    """
    unit_id = recorded.unit_id
    part = read_part(output, unit_id, fingerprint=fingerprint, keep_rows=keep_rows)
    if recorded.reported not in (None, part.entry()):
        path = output.child(SCORES, part_name(unit_id))
        raise CommitError(f"{path} is not the file that run/report.json lists.", unit_id=unit_id)
    check_dead_letters(output, part, is_there=recorded.has_dead_letters)
    check_memo(output, part, is_there=recorded.has_memo)
    return part
