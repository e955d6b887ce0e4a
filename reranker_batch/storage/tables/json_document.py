"""Files that are one JSON array of rows, or one JSON object."""

from __future__ import annotations

import codecs
import json
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.storage.tables.heads import without_bom
from reranker_batch.storage.tables.json_rows import json_row, rows_table
from reranker_batch.storage.tables.json_values import DECODER, shown_error
from reranker_batch.storage.tables.lines import BLOCK_BYTES, MAX_LINE_BYTES, Lines
from reranker_batch.storage.tables.opening import ByteSource, open_bytes

KEY_COLUMN = "key"
"""The key of each row in an object of rows."""
_BLANKS = " \t\r\n"
_LONGEST_TOKEN = 16
Element = tuple[int, Any]


def json_document_batches(
    lines: Lines, wanted: Collection[str] | None, ids: Collection[str]
) -> Iterator[tuple[pa.Table, LongArray]]:
    """The rows of an array, read one after the other, and the number of the line in which each begins.

    An object whose values are all objects has a row for each, with its key in the column `key`; any other object is
    one row. An object may have no more than `MAX_LINE_BYTES`, as may a row of an array.

    Raises:
        InputError: The file is not JSON, or has what is no row.
    """
    with open_bytes(lines.files, lines.piece) as source:
        text = DocumentText(lines, source)
        numbers, rows, size = [], [], 0
        for number, value in elements(text):
            rows.append(json_row(value, lines, number, wanted))
            numbers.append(number)
            if text.num_read - size > BLOCK_BYTES:
                yield rows_table(lines, rows, numbers, ids), np.asarray(numbers, dtype=np.int64)
                numbers, rows, size = [], [], text.num_read
        if rows:
            yield rows_table(lines, rows, numbers, ids), np.asarray(numbers, dtype=np.int64)


def elements(text: DocumentText) -> Iterator[Element]:
    """The rows of a document, and the number of the line in which each begins.

    Raises:
        InputError: The document is not JSON.
    """
    first = text.next_char()
    if first == "[":
        text.skip()
        yield from _of_array(text)
    elif first == "{":
        yield from _of_object(text)
    elif first:
        raise text.wrong("an array or an object is expected")
    if text.next_char():
        raise text.wrong("more follows after the end. If the file has an object a line, name it .jsonl")


def _of_array(text: DocumentText) -> Iterator[Element]:
    if text.next_char() == "]":
        text.skip()
        return
    while True:
        text.next_char()
        yield text.value()
        if (char := text.next_char()) not in (",", "]"):
            raise text.wrong("',' or ']' is expected" if char else "the array does not end")
        text.skip()
        if char == "]":
            return


def _of_object(text: DocumentText) -> Iterator[Element]:
    number, whole = text.value()
    if not whole or not all(isinstance(value, dict) for value in whole.values()):
        yield number, whole
        return
    for key, row in whole.items():
        if KEY_COLUMN in row:
            raise text.wrong(f"its rows have a column {KEY_COLUMN!r}, which is the place of their keys. Rename it")
        yield number, {KEY_COLUMN: key, **row}


class DocumentText:
    """The text of a file from a place on that moves forward."""

    def __init__(self, lines: Lines, source: ByteSource) -> None:
        self._lines, self._source = lines, source
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
        self._buffer, self._is_all = "", False
        self.position = self.number = self.num_read = 0

    def next_char(self) -> str:
        """The next character that is no blank, which stays; nothing at the end."""
        while True:
            while self.position < len(self._buffer):
                char = self._buffer[self.position]
                if char not in _BLANKS:
                    return char
                self.skip()
            if not self._read_more(BLOCK_BYTES):
                return ""

    def skip(self) -> None:
        """Go one character on."""
        self.number += self._buffer[self.position] == "\n"
        self.position += 1

    def value(self) -> Element:
        """The value that begins here, and the number of its line."""
        number, size = self.number, BLOCK_BYTES
        while True:
            try:
                value, end = DECODER.raw_decode(self._buffer, self.position)
            except (ValueError, RecursionError) as error:
                if not self._may_be_cut(error) or not self._read_more(size):
                    raise self.wrong(shown_error(error)) from None
                size *= 2
                continue
            self._refuse_large(end)
            self.number += self._buffer.count("\n", self.position, end)
            self.position = end
            return number, value

    def wrong(self, what: str) -> InputError:
        return InputError(f"{self._lines.place(self.number)} is not JSON: {what}.")

    def _refuse_large(self, stop: int) -> None:
        if stop - self.position > MAX_LINE_BYTES:
            raise self.wrong(f"a row has more than {MAX_LINE_BYTES >> 20} MiB. Write a row a line, as .jsonl")

    def _may_be_cut(self, error: Exception) -> bool:
        """Whether the error is due to what has not been read yet."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        self._refuse_large(len(self._buffer))
        return error.msg.startswith("Unterminated") or error.pos > len(self._buffer) - _LONGEST_TOKEN

    def _read_more(self, size: int) -> bool:
        """Drop what has been passed, and read on; False at the end."""
        if self._is_all:
            return False
        data = self._source.read(size)
        if not self.num_read:
            data = without_bom(data, self._lines.file)
        self._is_all = not data
        self.num_read += len(data)
        self._buffer = self._buffer[self.position :] + self._decoder.decode(data, final=self._is_all)
        self.position = 0
        return True
