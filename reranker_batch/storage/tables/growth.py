"""How large compressed files are when they are unpacked."""

from __future__ import annotations

from contextlib import suppress

import pyarrow as pa

from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.tables.table_files import TableFiles

_BEGIN_BYTES = 1 << 18
_READ_BYTES = 1 << 16
_UNPACKED = 4
"""How much larger compressed files and Parquet roughly are when they are unpacked."""


def unpacked_size(files: TableFiles, file_index: int) -> float:
    """The bytes of a file when it is unpacked, judged by how it begins.

    Raises:
        InputError: The file cannot be read.
    """
    file = files.files[file_index]
    if file.compression == "none":
        return file.size_bytes
    filesystem, path = files.place(file_index)
    try:
        with filesystem.open_input_file(path) as source:
            begin = bytes(source.read_at(min(_BEGIN_BYTES, source.size()), 0))
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {first_line(error)}.") from error
    num_bytes = 0
    with suppress(OSError), pa.CompressedInputStream(pa.BufferReader(begin), file.compression) as stream:
        while part := len(stream.read(_READ_BYTES)):  # ends with an error where more of the file follows
            num_bytes += part
    return file.size_bytes * max(1.0, num_bytes / max(len(begin), 1))


def unpacked_bytes(files: TableFiles) -> int:
    """Of all files, roughly."""
    return sum(
        file.size_bytes * (_UNPACKED if file.form == "parquet" or file.compression != "none" else 1)
        for file in files.files
    )
