"""Work units: the pieces of the input that are retried, committed and resumed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class WorkUnit:
    """The rows `row_start` up to `row_stop` of one input file; no query stands in two units.

    `file` is relative to the input's root. `num_pairs` is what the footers promise; the true number is
    known when the rows have been read.
    """

    unit_id: str
    file: str
    row_start: int
    row_stop: int
    num_pairs: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def unit_id_of(file_index: int, row_start: int) -> str:
    """Derived from the unit's place in the input, so that names sort as the input does."""
    return f"{file_index:05d}-{row_start:010d}"


def request_id_of(unit_id: str, row: int, chunk: int) -> str:
    """Named by the place of the query in the input, so that a rerun and another cut into units give the same."""
    file_index, _ = unit_id.split("-")
    return f"{file_index}-{row:010d}-{chunk}"


def auto_unit_pairs(num_pairs: int) -> int:
    """Pairs aimed at in a unit: some thirty units of a small input, never so small that sorting stops paying."""
    return min(16_384, max(1_024, num_pairs // 32))
