"""Lines of columns between tabs, where quotes are text, and lines of columns between runs of blanks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.storage.tables.forms import BOM
from reranker_batch.storage.tables.lines import MAX_LINE_BYTES, Lines
from reranker_batch.storage.tables.opening import open_bytes

_NEWLINE, _RETURN, _TAB, _BLANK = b"\n\r\t "
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class Fields:
    """The fields of lines, one after the other."""

    values: pa.Array
    counts: LongArray
    """Of each line; 0 for an empty one."""


def separated_batches(
    lines: Lines, wanted: Collection[str] | None, *, is_tsv: bool
) -> Iterator[tuple[pa.Table, LongArray]]:
    """The rows of each block of lines, all columns as text, and the number of each row's line in the piece.

    Raises:
        InputError: A line has another number of columns than the first line of the file.
    """
    names = first_fields(lines, is_tsv=is_tsv)
    header = names if lines.files.has_header else None
    columns = header or [str(number) for number in range(len(names))]
    if header:
        _refuse_doubled(lines, header)
    is_header_due = header is not None and lines.piece.start == 0
    for first, block in lines.blocks():
        fields = tab_fields(block) if is_tsv else blank_fields(block)
        numbers = np.flatnonzero(fields.counts) + first
        if is_header_due and len(numbers):
            fields = Fields(fields.values.slice(int(fields.counts[numbers[0] - first])), fields.counts)
            numbers, is_header_due = numbers[1:], False
        counts = fields.counts[numbers - first]
        if len(wrong := np.flatnonzero(counts != len(columns))):
            raise _wrong_count(lines, int(numbers[wrong[0]]), int(counts[wrong[0]]), columns)
        if len(numbers):
            yield _table(fields.values, columns, wanted), numbers


def _table(values: pa.Array, columns: Sequence[str], wanted: Collection[str] | None) -> pa.Table:
    kept = [(at, name) for at, name in enumerate(columns) if wanted is None or name in wanted]
    if not kept:
        kept = [*enumerate(columns)][:1]
    starts = np.arange(0, len(values), len(columns), dtype=np.int64)
    return pa.table({name: values.take(pa.array(starts + at)) for at, name in kept})


def first_fields(lines: Lines, *, is_tsv: bool) -> list[str]:
    """The fields of the first line of the file that is not empty; none where there is no such line.

    Raises:
        InputError: They are not valid UTF-8.
    """
    head = b""
    with open_bytes(lines.files, lines.piece) as source:
        while not (line := _first_line(head)) and len(head) <= MAX_LINE_BYTES and (more := source.read(1 << 16)):
            head = (head + more).removeprefix(BOM)
        line = line or head
    fields = tab_fields(line) if is_tsv else blank_fields(line)
    count = int(fields.counts[np.flatnonzero(fields.counts)[:1]].sum())
    names = fields.values.slice(0, count).cast(pa.large_binary()).to_pylist()
    try:
        return [name.decode() for name in names]
    except UnicodeDecodeError:
        if not lines.files.has_header:
            return [""] * count
        raise InputError(f"The header of {lines.file} is not valid UTF-8.") from None


def _first_line(head: bytes) -> bytes:
    """With its newline; nothing where it has not ended."""
    begin = len(head) - len(head.lstrip(b"\r\n"))
    return head[begin : head.find(b"\n", begin) + 1]


def tab_fields(block: bytes) -> Fields:
    """Every tab separates, so an empty field is one too. A carriage return before a newline belongs to it."""
    data = np.frombuffer(block if block.endswith(b"\n") else block + b"\n", dtype=np.uint8)
    is_newline = data == _NEWLINE
    is_end = is_newline | (data == _TAB)
    is_kept = ~is_end
    is_kept[:-1] &= ~((data[:-1] == _RETURN) & is_newline[1:])
    return _without_empty(_fields(data, is_kept, is_end, is_newline))


def blank_fields(block: bytes) -> Fields:
    """Runs of blanks and tabs separate, and those at either end of a line do not count."""
    data = np.frombuffer(block if block.endswith(b"\n") else block + b"\n", dtype=np.uint8)
    is_newline = data == _NEWLINE
    is_kept = ~(is_newline | (data == _TAB) | (data == _BLANK))
    is_kept[:-1] &= ~((data[:-1] == _RETURN) & is_newline[1:])
    is_end = np.zeros(len(data), dtype=bool)
    is_end[1:] = is_kept[:-1] & ~is_kept[1:]
    return _fields(data, is_kept, is_end, is_newline)


def _fields(data: np.ndarray, is_kept: np.ndarray, is_end: np.ndarray, is_newline: np.ndarray) -> Fields:
    """Fields are what is kept up to each end."""
    ends = np.flatnonzero(is_end)
    offsets = np.concatenate([[0], np.cumsum(is_kept)[ends]]).astype(np.int64)
    counts = np.diff(np.searchsorted(ends, np.flatnonzero(is_newline), side="right"), prepend=0)
    values = pa.Array.from_buffers(
        pa.large_string(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(data[is_kept].tobytes())]
    )
    return Fields(values, counts.astype(np.int64))


def _without_empty(fields: Fields) -> Fields:
    """An empty line has one empty field between its ends, and is no row."""
    starts = np.cumsum(fields.counts) - fields.counts
    lengths = np.diff(np.frombuffer(fields.values.buffers()[1], dtype=np.int64)[: len(fields.values) + 1])
    is_empty = (fields.counts == 1) & (lengths[starts] == 0)
    if not is_empty.any():
        return fields
    is_kept = np.ones(len(fields.values), dtype=bool)
    is_kept[starts[is_empty]] = False
    return Fields(fields.values.filter(pa.array(is_kept)), np.where(is_empty, 0, fields.counts))


def _wrong_count(lines: Lines, number: int, count: int, columns: Sequence[str]) -> InputError:
    shown = ", ".join(columns[:_SHOWN_COLUMNS]) + (", …" if len(columns) > _SHOWN_COLUMNS else "")
    return InputError(
        f"{lines.place(number)} has {count} columns; the first line has {len(columns)} ({shown}). Check the line, and "
        "that the file has this form."
    )


def _refuse_doubled(lines: Lines, header: Sequence[str]) -> None:
    if twice := [name for name in header if header.count(name) > 1]:
        raise InputError(f"Column name {twice[0]!r} stands twice in the header of {lines.file}. Rename one.")
