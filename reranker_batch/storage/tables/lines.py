"""Whole lines of a piece, in blocks. A line ends with a newline and with nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from reranker_batch.errors import InputError
from reranker_batch.storage.input.partitions import Partitions
from reranker_batch.storage.tables.heads import without_bom
from reranker_batch.storage.tables.opening import ByteSource, open_bytes
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.table_files import TableFiles

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20


@dataclass(frozen=True)
class Lines:
    """The lines of one piece, and where they stand in its file."""

    files: TableFiles
    piece: Piece

    @property
    def file(self) -> str:
        return self.files.files[self.piece.file_index].path

    @cached_property
    def partitions(self) -> Partitions:
        return self.files.partitions(self.piece.file_index)

    def place(self, number: int) -> str:
        """File and line, counted from 1, of a line by its number in the piece, which counts from 0."""
        return f"{self.file}, line {self.lines_before() + number + 1}"

    def lines_before(self) -> int:
        """How many lines of the file precede the piece. Reads all of them."""
        if self.piece.start == 0:
            return 0
        count, left = 1, self.piece.start - 1
        with open_bytes(self.files, self.piece) as source:
            while left and (block := source.read(min(left, BLOCK_BYTES))):
                count += block.count(b"\n")
                left -= len(block)
        return count

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """The number of the first line and the bytes of whole lines, about `BLOCK_BYTES` each.

        Only the last line of the file may lack its newline. A mark of the byte order at the beginning is left out.

        Raises:
            InputError: The file cannot be read, is UTF-16, or has a line over `MAX_LINE_BYTES`.
        """
        with open_bytes(self.files, self.piece, max(0, self.piece.start - 1)) as source:
            if begin := self._begin(source):
                yield from self._whole_lines(source, *begin)

    def _begin(self, source: ByteSource) -> tuple[int, bytes] | None:
        """The byte at which the first line begins and some bytes from there; None where no line begins in the piece."""
        position, chunk = max(0, self.piece.start - 1), source.read(BLOCK_BYTES)
        if self.piece.start == 0:
            data = without_bom(chunk, self.file)
            return len(chunk) - len(data), data
        while (first := chunk.find(b"\n") + 1) == 0 and chunk:
            position += len(chunk)
            chunk = source.read(BLOCK_BYTES)
        position += first
        is_outside = self.piece.stop is not None and position >= self.piece.stop
        return None if is_outside else (position, chunk[first:])

    def _whole_lines(self, source: ByteSource, position: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        number, stop = 0, self.piece.stop
        while True:
            if len(data) > MAX_LINE_BYTES and data.find(b"\n", 0, MAX_LINE_BYTES + 1) < 0:
                raise self._too_long(number)
            end = -1 if stop is None else data.find(b"\n", max(0, stop - 1 - position))
            if end >= 0:
                yield number, data[: end + 1]
                return
            cut = data.rfind(b"\n") + 1
            if cut:
                yield number, data[:cut]
                number += data.count(b"\n")
            position, data = position + cut, data[cut:]
            if not (chunk := source.read(BLOCK_BYTES)):
                break
            data += chunk
        if data:
            yield number, data

    def _too_long(self, number: int) -> InputError:
        return InputError(
            f"{self.place(number)} has more than {MAX_LINE_BYTES >> 20} MiB. Check that the file has a row a line."
        )
