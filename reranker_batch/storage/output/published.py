"""Which units of a run are done."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from reranker_batch.core.report import PartEntry
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import CommitError
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.output.parts import SCORES, PublishedPart, check_dead_letters, part_name, read_part
from reranker_batch.storage.output.run_state import RunState

logger = logging.getLogger(__name__)

_THREADS = 8


def published_parts(state: RunState, units: Sequence[WorkUnit], *, fingerprint: str | None) -> Iterator[PublishedPart]:
    """Yield the parts of the units that are done, in the order of their ids; all others have to be computed.

    Done is a unit whose part and dead letters are whole, of these settings, and those that the part itself and the
    report of an earlier attempt record. Where one is not, the log says why, and it counts as not done. Without a
    `fingerprint`, which is that of the manifest, no unit is done.

    Raises:
        CommitError: A file in `scores/` or `dead_letters/` belongs to no unit of the plan.
    """
    if foreign := state.foreign_files(unit.unit_id for unit in units):
        raise CommitError(f"{state.output.child(foreign[0])} belongs to no unit of this run. Move it away.")
    if fingerprint is None:
        return
    reported, letters, names = state.reported_parts(), state.dead_letter_names(), state.part_names()

    def read(unit_id: str) -> PublishedPart | None:
        try:
            return read_unit_parts(state.output, unit_id, fingerprint=fingerprint, reported=reported, letters=letters)
        except CommitError as error:
            logger.warning("%s It is computed again.", error)
            return None

    unit_ids = sorted(unit.unit_id for unit in units if part_name(unit.unit_id) in names)
    with ThreadPoolExecutor(_THREADS) as threads:
        yield from (part for part in threads.map(read, unit_ids) if part is not None)


def read_unit_parts(
    output: Folder,
    unit_id: str,
    *,
    fingerprint: str | None,
    reported: Mapping[str, PartEntry],
    letters: Container[str],
) -> PublishedPart:
    """Read the part and the dead letters of one unit and compare them with what is on record.

    Raises:
        CommitError: One of them is missing, damaged, of other settings, or not the file that was published.
    """
    part = read_part(output, unit_id, fingerprint=fingerprint)
    entry = reported.get(unit_id)
    if entry is not None and entry != part.entry():
        path = output.child(SCORES, part_name(unit_id))
        raise CommitError(f"{path} is not the file that run/report.json lists.", unit_id=unit_id)
    check_dead_letters(output, part, is_there=part_name(unit_id) in letters)
    return part
