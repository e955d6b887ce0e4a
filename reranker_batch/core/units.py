"""Work units: the pieces of the input that are retried, committed and resumed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from reranker_batch.core.fingerprint import fingerprint

_UNIT_ID = re.compile(r"\d{5,}-\d{10,}")
_SECOND_NS = 1_000_000_000
_DIGEST = re.compile(r"[0-9a-f]{64}")

Record = TypeVar("Record")


@dataclass(frozen=True)
class FileIdentity:
    """What tells a file from another one under the same name."""

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
        """How `now` differs, in words; empty when it is the same file. A time counts where both know it."""
        changes = []
        if now.size_bytes != self.size_bytes:
            changes.append(f"it had {self.size_bytes:,} bytes and has {now.size_bytes:,}")
        if now.footer_digest != self.footer_digest:
            changes.append("its footer is another one")
        if not _is_same_time(self.modified_ns, now.modified_ns):
            changes.append("it was written again at another time")
        return changes


@dataclass(frozen=True)
class WorkUnit:
    """The rows `row_start` up to `row_stop` of one input file; no query stands in two units.

    `file` is relative to the input's root. `num_pairs` is what the footers promise; the true number is
    known when the rows have been read. `identity` is the file's when the plan was made.
    """

    unit_id: str
    file: str
    row_start: int
    row_stop: int
    num_pairs: int
    identity: FileIdentity

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> WorkUnit:
        """Read what `to_dict` gives, also after a way through JSON.

        Raises:
            ValueError: It is anything else.
        """
        unit = _from_exact_fields(cls, values)
        is_right = isinstance(unit.unit_id, str) and bool(_UNIT_ID.fullmatch(unit.unit_id))
        is_right &= isinstance(unit.file, str)
        is_right &= _is_count(unit.row_start) and _is_count(unit.row_stop) and _is_count(unit.num_pairs)
        if not is_right or unit.row_start > unit.row_stop:
            raise ValueError(f"not a work unit: {str(values)[:200]}")
        return cls(**{**values, "identity": FileIdentity.from_dict(values["identity"])})


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


def units_digest(units: Sequence[WorkUnit]) -> str:
    """SHA-256 of the units in their order, every field of them."""
    return fingerprint({"units": [unit.to_dict() for unit in units]})


def tiling_problems(units: Sequence[WorkUnit], files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What keeps the units from covering every row of the files once and in order; empty when nothing does.

    `files` is `manifest["input"]["files"]`: by path, in the order of the input, `num_rows` and the fields of
    `FileIdentity`. An input without rows is one unit without rows, of its first file.
    """
    by_file: dict[str, list[WorkUnit]] = {path: [] for path in files}
    problems = [
        f"Unit {unit.unit_id} reads {unit.file}, no file of the input." for unit in units if unit.file not in files
    ]
    for unit in units:
        by_file.get(unit.file, []).append(unit)
    in_order = [unit for path in files for unit in sorted(by_file[path], key=lambda unit: unit.row_start)]
    if not problems and in_order != list(units):
        problems.append("The units are not in the order of the input.")
    is_empty = not any(isinstance(values, Mapping) and values.get("num_rows") for values in files.values())
    for index, (path, values) in enumerate(files.items()):
        try:
            num_rows, identity = _recorded(values)
        except ValueError as error:
            problems.append(f"The record of {path} is damaged: {error}.")
            continue
        in_file = sorted(by_file[path], key=lambda unit: unit.row_start)
        problems += _identity_problems(index, in_file, identity)
        num_empty = 1 if is_empty and index == 0 else 0
        problems += _range_problems(path, in_file, num_rows) if num_rows else _empty_problems(path, in_file, num_empty)
    return problems


def _identity_problems(index: int, units: Sequence[WorkUnit], identity: FileIdentity) -> Iterator[str]:
    for unit in units:
        if (expected := unit_id_of(index, unit.row_start)) != unit.unit_id:
            yield f"Unit {unit.unit_id} stands where {expected} belongs, at row {unit.row_start} of {unit.file}."
        if unit.identity != identity:
            yield f"Unit {unit.unit_id} was cut from another {unit.file} than the one on record."


def _range_problems(path: str, units: Sequence[WorkUnit], num_rows: int) -> Iterator[str]:
    row = 0
    for unit in units:
        if unit.row_start > row:
            yield f"Rows {row} to {unit.row_start - 1} of {path} belong to no unit."
        elif unit.row_start < row:
            yield f"Rows {unit.row_start} to {min(row, unit.row_stop) - 1} of {path} belong to two units."
        if unit.row_start == unit.row_stop:
            yield f"Unit {unit.unit_id} has no rows."
        row = max(row, unit.row_stop)
    if row < num_rows:
        yield f"Rows {row} to {num_rows - 1} of {path} belong to no unit."
    elif row > num_rows:
        yield f"{path} has {num_rows:,} rows, but its units go to row {row - 1}."


def _empty_problems(path: str, units: Sequence[WorkUnit], num_expected: int) -> Iterator[str]:
    if len(units) != num_expected or any(unit.row_stop for unit in units):
        yield f"{path} has no rows, so it must have {num_expected} units without rows."


def _recorded(values: Any) -> tuple[int, FileIdentity]:
    if not isinstance(values, dict) or not _is_count(values.get("num_rows")):
        raise ValueError(f"no number of rows in {str(values)[:200]}")
    return values["num_rows"], FileIdentity.from_dict({key: values[key] for key in values if key != "num_rows"})


def _from_exact_fields(record: type[Record], values: Any) -> Record:
    names = {field.name for field in fields(record)}  # type: ignore[arg-type]
    if not isinstance(values, dict) or values.keys() != names:
        raise ValueError(f"{', '.join(sorted(names))} are expected, not {str(values)[:200]}")
    return record(**values)


def _is_same_time(first_ns: int | None, second_ns: int | None) -> bool:
    """Some stores tell a time by the millisecond in a listing and by the second for one file."""
    if first_ns is None or second_ns is None or first_ns == second_ns:
        return True
    is_coarse = first_ns % _SECOND_NS == 0 or second_ns % _SECOND_NS == 0
    return is_coarse and first_ns // _SECOND_NS == second_ns // _SECOND_NS


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 0
