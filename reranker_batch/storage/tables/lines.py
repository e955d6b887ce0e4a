"""Whole lines of a piece, in blocks. A line ends with a newline and with nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.forms import BOM
from reranker_batch.storage.tables.opening import open_bytes
from reranker_batch.storage.tables.pieces import Piece
from reranker_batch.storage.tables.table_files import TableFiles

BLOCK_BYTES = 4 << 20
MAX_LINE_BYTES = 64 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Lines:
    """The lines of one piece, and where they stand in its file."""

    files: TableFiles
    piece: Piece

    @property
    def file(self) -> str:
        return self.files.files[self.piece.file_index].path

    def place(self, number: int) -> str:
        """File and line, counted from 1, of a line by its number in the piece, which counts from 0."""
        return f"{self.file}, line {self.lines_before() + number + 1:,}"

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
        number = 0
        for block in self._blocks():
            yield number, block
            number += block.count(b"\n")

    def _blocks(self) -> Iterator[bytes]:
        piece = self.piece
        position = max(0, piece.start - 1)
        num_lines, rest, is_inside = 0, b"", piece.start == 0
        with open_bytes(self.files, piece, position) as source:
            while chunk := source.read(BLOCK_BYTES):
                data = rest + chunk if rest else chunk
                if not is_inside:
                    first = data.find(b"\n") + 1
                    rest, is_inside = b"", first > 0
                    position += first if is_inside else len(data)
                    if not is_inside:
                        continue
                    if piece.stop is not None and position >= piece.stop:
                        return
                    data = data[first:]
                elif position == 0 and not rest:
                    self._refuse_utf16(data)
                    if data.startswith(BOM):
                        data, position = data[len(BOM) :], len(BOM)
                end = -1 if piece.stop is None else data.find(b"\n", max(0, piece.stop - 1 - position))
                if end >= 0:
                    yield data[: end + 1]
                    return
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield data[:cut]
                    num_lines += data.count(b"\n")
                position += cut
                rest = data[cut:]
                if len(rest) > MAX_LINE_BYTES:
                    raise self.too_long(num_lines)
            if rest:
                yield rest

    def too_long(self, number: int) -> InputError:
        return InputError(
            f"{self.place(number)} has more than {MAX_LINE_BYTES >> 20} MiB. Check that the file has a row a line."
        )

    def _refuse_utf16(self, data: bytes) -> None:
        if data.startswith(_UTF16):
            raise InputError(f"{self.file} is UTF-16. Write it as UTF-8.")
