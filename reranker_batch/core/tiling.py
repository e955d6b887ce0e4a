"""Whether recorded units cover the input: every row once, in order, of the files that were planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reranker_batch.core.units import FileIdentity, Span, WorkUnit, unit_id_of


def tiling_problems(units: Sequence[WorkUnit], files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What keeps the units from covering every row of the files once and in order; empty when nothing does.

    `files` is `manifest["input"]["files"]`: by path, in the order of the input, `num_rows` and the fields of
    `FileIdentity`. An input without rows is one unit without rows, of its first file.
    """
    spans = [(unit, span) for unit in units for span in unit.spans]
    by_file: dict[str, list[tuple[WorkUnit, Span]]] = {path: [] for path in files}
    for unit, span in spans:
        by_file.get(span.file, []).append((unit, span))
    problems = [
        f"Unit {unit.unit_id} reads {span.file}, no file of the input." for unit, span in _foreign(spans, files)
    ]
    in_order = [place for path in files for place in sorted(by_file[path], key=lambda place: place[1].row_start)]
    if not problems and in_order != spans:
        problems.append("The units are not in the order of the input.")
    problems += _unit_problems(units)
    is_empty = not any(isinstance(values, Mapping) and values.get("num_rows") for values in files.values())
    for index, (path, values) in enumerate(files.items()):
        try:
            num_rows, identity = _recorded(values)
        except ValueError as error:
            problems.append(f"The record of {path} is damaged: {error}.")
            continue
        in_file = sorted(by_file[path], key=lambda place: place[1].row_start)
        problems += _file_problems(index, in_file, identity)
        num_empty = 1 if is_empty and index == 0 else 0
        problems += _range_problems(path, in_file, num_rows) if num_rows else _empty_problems(path, in_file, num_empty)
    return problems


def _foreign(
    spans: Sequence[tuple[WorkUnit, Span]], files: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[WorkUnit, Span]]:
    return ((unit, span) for unit, span in spans if span.file not in files)


def _unit_problems(units: Sequence[WorkUnit]) -> Iterator[str]:
    for unit in units:
        first = unit.spans[0]
        if (expected := unit_id_of(first.file_index, first.row_start)) != unit.unit_id:
            yield f"Unit {unit.unit_id} stands where {expected} belongs, at row {first.row_start} of {first.file}."
        if len({span.file for span in unit.spans}) < len(unit.spans):
            yield f"Unit {unit.unit_id} lists a file twice."


def _file_problems(index: int, spans: Sequence[tuple[WorkUnit, Span]], identity: FileIdentity) -> Iterator[str]:
    for unit, span in spans:
        if span.file_index != index:
            yield f"Unit {unit.unit_id} counts {span.file} as file {span.file_index} of the input, it is file {index}."
        if span.identity != identity:
            yield f"Unit {unit.unit_id} was cut from another {span.file} than the one on record."


def _range_problems(path: str, spans: Sequence[tuple[WorkUnit, Span]], num_rows: int) -> Iterator[str]:
    row = 0
    for unit, span in spans:
        if span.row_start > row:
            yield f"Rows {row} to {span.row_start - 1} of {path} belong to no unit."
        elif span.row_start < row:
            yield f"Rows {span.row_start} to {min(row, span.row_stop) - 1} of {path} belong to two units."
        if span.row_start == span.row_stop:
            yield f"Unit {unit.unit_id} has no rows of {path}."
        row = max(row, span.row_stop)
    if row < num_rows:
        yield f"Rows {row} to {num_rows - 1} of {path} belong to no unit."
    elif row > num_rows:
        yield f"{path} has {num_rows:,} rows, but its units go to row {row - 1}."


def _empty_problems(path: str, spans: Sequence[tuple[WorkUnit, Span]], num_expected: int) -> Iterator[str]:
    if len(spans) != num_expected or any(span.row_stop for _, span in spans):
        yield f"{path} has no rows, so it must have {num_expected} units without rows."


def _recorded(values: Any) -> tuple[int, FileIdentity]:
    num_rows = values.get("num_rows") if isinstance(values, dict) else None
    if not isinstance(num_rows, int) or isinstance(num_rows, bool) or num_rows < 0:
        raise ValueError(f"no number of rows in {str(values)[:200]}")
    return num_rows, FileIdentity.from_dict({key: values[key] for key in values if key != "num_rows"})
