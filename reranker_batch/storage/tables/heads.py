"""How files begin, unpacked."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
from pyarrow import fs

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.forms import BOM, UTF16, Compression, compression_by_head

_HEAD_BYTES = 1 << 16
_MAX_HEAD_BYTES = 64 << 20


class Head(NamedTuple):
    """The first bytes of a file, with the whole first line if it begins like JSON and is not too long for a row."""

    compression: Compression
    content: bytes
    is_all: bool


def read_head(filesystem: fs.FileSystem, path: str) -> Head:
    """Read how a file begins, whatever its name says about its compression. Damaged files count as far as they unpack.

    Raises:
        OSError: The file cannot be read.
    """
    with filesystem.open_input_file(path) as source:
        size_bytes, num_bytes = source.size(), _HEAD_BYTES
        while True:
            raw = bytes(source.read_at(min(num_bytes, size_bytes), 0))
            compression = compression_by_head(raw)
            content, is_all = _unpacked(raw, compression, num_bytes)
            head = Head(compression, content, is_all and num_bytes >= size_bytes)
            if head.is_all or num_bytes >= _MAX_HEAD_BYTES or not _is_cut_json(head.content):
                return head
            num_bytes *= 4


def _unpacked(raw: bytes, compression: Compression, num_bytes: int) -> tuple[bytes, bool]:
    """At least `num_bytes` of what these bytes unpack to, or all of it and True."""
    if compression == "none":
        return raw, True
    parts: list[bytes] = []
    size = 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(raw), compression) as stream:
            while size < num_bytes:
                if not (part := bytes(stream.read(1 << 12))):
                    return b"".join(parts), True
                parts.append(part)
                size += len(part)
    except OSError:  # the rest of the file is missing
        pass
    return b"".join(parts), False


def _is_cut_json(content: bytes) -> bool:
    begin = content.removeprefix(BOM).lstrip()
    return begin.startswith(b"{") and b"\n" not in begin


def without_bom(head: bytes, file: str) -> bytes:
    """The first bytes of a file without the mark of the byte order.

    Raises:
        InputError: The mark is that of UTF-16.
    """
    if head.startswith(UTF16):
        raise InputError(f"{file} is UTF-16. Write it as UTF-8.")
    return head.removeprefix(BOM)
