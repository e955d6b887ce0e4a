"""What one task reads of a table."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from reranker_batch.core.units import FileIdentity
from reranker_batch.errors import InputError
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.footers import Footer, read_footer
from reranker_batch.storage.tables.table_file import TableFile
from reranker_batch.storage.tables.table_files import TableFiles

PIECE_BYTES = 64 << 20
_FOOTER_THREADS = 16


@dataclass(frozen=True)
class Piece:
    """A part of one file: rows of Parquet, bytes of a file that can be cut at any line, or a whole file.

    A line belongs to the piece in which it begins.
    """

    file_index: int
    start: int
    stop: int | None
    """None for a whole file."""
    identity: FileIdentity


def pieces(files: TableFiles, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """Cut a table into pieces of about `piece_bytes`, in the order of its rows. Reads the footers of Parquet files.

    Raises:
        InputError: A Parquet file cannot be used.
    """
    indexes, piece_bytes = range(len(files.files)), max(1, piece_bytes)
    if files.form != "parquet":
        return [piece for index in indexes for piece in _byte_ranges(index, files.files[index], piece_bytes)]
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        cut = pool.map(lambda index: list(_row_groups(files, index, files.files[index], piece_bytes)), indexes)
        return [piece for of_file in cut for piece in of_file]


def _byte_ranges(index: int, file: TableFile, piece_bytes: int) -> Iterator[Piece]:
    identity = FileIdentity(file.size_bytes, file.modified_ns, "")
    if file.compression != "none" or file.form in ("csv", "json") or not file.size_bytes:
        yield Piece(index, 0, None, identity)
        return
    for start in range(0, file.size_bytes, piece_bytes):
        yield Piece(index, start, min(start + piece_bytes, file.size_bytes), identity)


def _row_groups(files: TableFiles, index: int, file: TableFile, piece_bytes: int) -> Iterator[Piece]:
    footer = footer_of(files, index)
    identity = FileIdentity(footer.size_bytes, file.modified_ns, footer.digest)
    start = row = gathered = 0
    for number in range(footer.metadata.num_row_groups):
        group = footer.metadata.row_group(number)
        if gathered and gathered + group.total_byte_size > piece_bytes:
            yield Piece(index, start, row, identity)
            start, gathered = row, 0
        row += group.num_rows
        gathered += group.total_byte_size
    yield Piece(index, start, row, identity)


def footer_of(files: TableFiles, file_index: int) -> Footer:
    """The footer of a Parquet file.

    Raises:
        InputError: The file cannot be used, or is not as large as when it was listed. Names it.
    """
    file = files.files[file_index]
    filesystem, path = files.place(file_index)
    try:
        footer = retried(lambda: read_footer(filesystem, path), f"Reading {path}")
    except (InputError, OSError) as error:
        raise InputError(f"{file.path} cannot be used: {str(error).rstrip('.')}.") from error
    if file.size_bytes not in (0, footer.size_bytes):
        raise InputError(
            f"{file.path} cannot be used: it had {file.size_bytes:,} bytes when it was listed and has "
            f"{footer.size_bytes:,} now, so somebody is writing it."
        )
    return footer
