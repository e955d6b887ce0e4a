"""Lines of columns between tabs, where quotes are text, and lines of columns between runs of blanks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.storage.tables.columns import TextColumns, table_of, text_columns
from reranker_batch.storage.tables.forms import BOM
from reranker_batch.storage.tables.lines import MAX_LINE_BYTES, Lines
from reranker_batch.storage.tables.opening import open_bytes

_NEWLINE, _TAB, _BLANK = b"\n\t "

ByteArray = npt.NDArray[np.uint8]


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
    columns = text_columns(lines, first_fields(lines, is_tsv=is_tsv))
    is_header_due = lines.files.has_header and lines.piece.start == 0
    for first, block in lines.blocks():
        fields = tab_fields(block) if is_tsv else blank_fields(block)
        numbers = np.flatnonzero(fields.counts) + first
        if is_header_due and len(numbers):
            fields = Fields(fields.values.slice(int(fields.counts[numbers[0] - first])), fields.counts)
            numbers, is_header_due = numbers[1:], False
        counts = fields.counts[numbers - first]
        for at in np.flatnonzero(counts != len(columns.names))[:1]:
            columns.check(int(numbers[at]), int(counts[at]))
        if len(numbers):
            yield _table(fields.values, columns, wanted), numbers


def _table(values: pa.Array, columns: TextColumns, wanted: Collection[str] | None) -> pa.Table:
    starts = np.arange(0, len(values), len(columns.names), dtype=np.int64)
    kept = columns.kept(wanted)
    return table_of({name: values.take(pa.array(starts + at)) for at, name in kept}, len(starts))


def first_fields(lines: Lines, *, is_tsv: bool) -> list[str]:
    """The fields of the first line of the file that is not empty; none where there is no such line.

    Raises:
        InputError: The file cannot be read.
    """
    head = b""
    with open_bytes(lines.files, lines.piece) as source:
        while (
            not (line := _first_line(head))
            and len(head) <= MAX_LINE_BYTES
            and (more := source.read(max(1 << 16, len(head))))
        ):
            head = (head + more).removeprefix(BOM)
    fields = (tab_fields if is_tsv else blank_fields)(line or head)
    count = int(fields.counts[np.flatnonzero(fields.counts)[:1]].sum())
    names = fields.values.slice(0, count).cast(pa.large_binary()).to_pylist()
    return [name.decode(errors="surrogateescape") for name in names]


def _first_line(head: bytes) -> bytes:
    """With its newline; nothing where it has not ended."""
    begin = len(head) - len(head.lstrip(b"\r\n"))
    return head[begin : head.find(b"\n", begin) + 1]


def tab_fields(block: bytes) -> Fields:
    """Every tab separates, so an empty field is one too. A carriage return before a newline belongs to it."""
    block = _with_newlines(block)
    data = np.frombuffer(block, dtype=np.uint8)
    marks = np.flatnonzero((data == _TAB) | (data == _NEWLINE))
    fields = _fields(block.translate(None, b"\t\n"), data, marks, np.ones(len(marks), dtype=bool))
    return _without_empty(fields)


def blank_fields(block: bytes) -> Fields:
    """Runs of blanks and tabs separate, and those at either end of a line do not count."""
    block = _with_newlines(block)
    data = np.frombuffer(block, dtype=np.uint8)
    marks = np.flatnonzero((data == _TAB) | (data == _BLANK) | (data == _NEWLINE))
    return _fields(block.translate(None, b"\t \n"), data, marks, np.diff(marks, prepend=-1) > 1)


def _with_newlines(block: bytes) -> bytes:
    """Each line with a newline, and no carriage return before it."""
    block = block if block.endswith(b"\n") else block + b"\n"
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _fields(content: bytes, data: ByteArray, marks: LongArray, is_end: npt.NDArray[np.bool_]) -> Fields:
    """`content` is `data` without the bytes at `marks`, some of which end a field."""
    stops = (marks - np.arange(len(marks)))[is_end]
    offsets = pa.py_buffer(np.concatenate([[0], stops]).astype(np.int64))
    values = pa.Array.from_buffers(pa.large_string(), len(stops), [None, offsets, pa.py_buffer(content)])
    ends_before = np.cumsum(is_end)[data[marks] == _NEWLINE]
    return Fields(values, np.diff(ends_before, prepend=0))


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
