"""Work units: the pieces of the input that are retried, committed and resumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from reranker_batch.core.fingerprint import fingerprint
from reranker_batch.core.ragged import LongArray, offsets_of

_UNIT_ID = re.compile(r"\d{5,}-\d{10,}")
_SECOND_NS = 1_000_000_000
_UNIT_BYTES = 256 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")

Record = TypeVar("Record")


@dataclass(frozen=True)
class FileIdentity:
    """Detects whether a file was replaced by another one of the same name."""

    size_bytes: int
    modified_ns: int | None
    """Not known on every store."""
    footer_digest: str
    """SHA-256 of the footer's bytes."""

    @classmethod
    def from_dict(cls, values: Any) -> FileIdentity:
        """Read what `asdict` gives.

        Raises:
            ValueError: It is anything else.
        """
        identity = _from_exact_fields(cls, values)
        is_right = _is_count(identity.size_bytes)
        is_right &= identity.modified_ns is None or _is_integer(identity.modified_ns)
        is_right &= isinstance(identity.footer_digest, str) and bool(_DIGEST.fullmatch(identity.footer_digest))
        if not is_right:
            raise ValueError(f"not the identity of a file: {str(values)[:200]}")
        return identity

    def changes_in(self, now: FileIdentity) -> list[str]:
        """How `now` differs, in words; empty if it is the same file. Times are compared only if both are known."""
        changes = []
        if now.size_bytes != self.size_bytes:
            changes.append(f"it had {self.size_bytes:,} bytes and has {now.size_bytes:,}")
        if now.footer_digest != self.footer_digest:
            changes.append("its footer is another one")
        if not _is_same_time(self.modified_ns, now.modified_ns):
            changes.append("it was written again at another time")
        return changes


@dataclass(frozen=True)
class Span:
    """The rows `row_start` up to `row_stop` of one input file.

    `file` is relative to the input's root, `file_index` its place among the files of the input, and `identity` is the
    file's when the plan was made.
    """

    file_index: int
    file: str
    row_start: int
    row_stop: int
    identity: FileIdentity

    @property
    def num_rows(self) -> int:
        return self.row_stop - self.row_start

    @classmethod
    def from_dict(cls, values: Any) -> Span:
        """Read what `asdict` gives.

        Raises:
            ValueError: It is anything else.
        """
        span = _from_exact_fields(cls, values)
        is_right = isinstance(span.file, str) and all(map(_is_count, (span.file_index, span.row_start, span.row_stop)))
        if not is_right or span.row_start > span.row_stop:
            raise ValueError(f"not rows of a file: {str(values)[:200]}")
        return replace(span, identity=FileIdentity.from_dict(values["identity"]))

    def __str__(self) -> str:
        return f"{self.file}, rows {self.row_start} to {max(self.row_start, self.row_stop - 1)}"


@dataclass(frozen=True)
class WorkUnit:
    """Neighbouring rows of the input, of one file or of several small ones; no query stands in two units.

    A row of the unit is counted from 0 over all spans. `num_pairs` is what the footers promise; the true number is
    known when the rows have been read.
    """

    unit_id: str
    spans: tuple[Span, ...]
    num_pairs: int

    @cached_property
    def offsets(self) -> LongArray:
        """The row of the unit at which each span begins; one more for the end."""
        return offsets_of(np.asarray([span.num_rows for span in self.spans], dtype=np.int64))

    @property
    def num_rows(self) -> int:
        return sum(span.num_rows for span in self.spans)

    def places_of(self, rows: LongArray) -> tuple[LongArray, LongArray]:
        """The span (its position in `spans`) and the row of the file for each of these rows of the unit."""
        at = np.searchsorted(self.offsets[1:-1], rows, side="right")
        starts = np.asarray([span.row_start for span in self.spans], dtype=np.int64)
        return at, rows - self.offsets[at] + starts[at]

    def head(self, num_rows: int, num_pairs: int) -> WorkUnit:
        """The first rows alone, at least one where there are any; a query of several rows may be cut."""
        kept = [
            replace(span, row_stop=min(span.row_stop, span.row_start + num_rows - int(before)))
            for span, before in zip(self.spans, self.offsets[:-1], strict=True)
            if before < num_rows
        ]
        return replace(self, spans=tuple(kept) or self.spans[:1], num_pairs=num_pairs)

    @property
    def shown(self) -> str:
        """The rows, for a message."""
        first, last = self.spans[0], self.spans[-1]
        if len(self.spans) == 1:
            return str(first)
        stop = f"row {last.row_stop - 1} of {last.file}"
        return f"row {first.row_start} of {first.file} to {stop} ({len(self.spans):,} files)"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> WorkUnit:
        """Read what `to_dict` gives, also after a round trip through JSON.

        Raises:
            ValueError: It is anything else.
        """
        unit = _from_exact_fields(cls, values)
        is_right = isinstance(unit.unit_id, str) and bool(_UNIT_ID.fullmatch(unit.unit_id))
        is_right &= _is_count(unit.num_pairs) and isinstance(unit.spans, list | tuple) and len(unit.spans) > 0
        if not is_right:
            raise ValueError(f"not a work unit: {str(values)[:200]}")
        return cls(unit.unit_id, tuple(map(Span.from_dict, unit.spans)), unit.num_pairs)


def unit_id_of(file_index: int, row_start: int) -> str:
    """File and row at which the unit begins, so that ids sort in the order of the input."""
    return f"{file_index:05d}-{row_start:010d}"


def request_id_of(file_index: int, row: int, chunk: int) -> str:
    """File and row of the query and number of the chunk, so that the id does not depend on the units."""
    return f"{unit_id_of(file_index, row)}-{chunk}"


def auto_unit_pairs(num_pairs: int) -> int:
    """Target pairs per unit: about 32 units for a small input, but large enough for batches of similar lengths."""
    return min(16_384, max(1_024, num_pairs // 32))


def auto_unit_pairs_with_reuse(num_pairs: int, unpacked_bytes: int) -> int:
    """Target pairs per unit where most pairs are not scored: larger, as long as its rows take no more than 256 MiB."""
    fitting = _UNIT_BYTES * num_pairs // max(1, unpacked_bytes)
    return max(16_384, min(65_536, num_pairs // 8, fitting))


def units_digest(units: Sequence[WorkUnit]) -> str:
    """SHA-256 of the units in their order, every field of them."""
    return fingerprint({"units": [unit.to_dict() for unit in units]})


def _from_exact_fields(record: type[Record], values: Any) -> Record:
    names = {field.name for field in fields(record)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"{', '.join(sorted(names))} are expected, not {str(values)[:200]}")
    return record(**values)


def _is_same_time(first_ns: int | None, second_ns: int | None) -> bool:
    """Some stores give milliseconds in a listing but only seconds for a single file."""
    if first_ns is None or second_ns is None or first_ns == second_ns:
        return True
    is_coarse = first_ns % _SECOND_NS == 0 or second_ns % _SECOND_NS == 0
    return is_coarse and first_ns // _SECOND_NS == second_ns // _SECOND_NS


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 0
