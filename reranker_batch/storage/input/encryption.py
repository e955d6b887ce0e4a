"""Which columns of a Parquet file are encrypted, read from the bytes of its footer.

pyarrow ends the process when it is asked for the metadata of a column whose key it does not have, so this has to be
known before. A footer is a Thrift struct in the compact protocol; the numbers below are those of parquet.thrift.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13
_FIXED_WIDTH = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}
_ROW_GROUPS, _COLUMNS, _CRYPTO = 4, 1, 8
"""`FileMetaData.row_groups`, `RowGroup.columns`, `ColumnChunk.crypto_metadata`."""
_CRYPTO_BYTES = re.compile(rb"(?:[\x1c\x3c\x5c\x6c]|\x0c\x10)(?:\x1c\x00\x00|\x2c\x19.)", re.DOTALL)
"""How `crypto_metadata` begins, after whatever fields stand before it; a chance hit costs time and nothing else."""


def encrypted_columns(footer: bytes, *, is_signed: bool) -> list[int]:
    """Numbers of the leaf columns that are encrypted in any row group.

    Only a footer that is signed, as every writer of encrypted columns does, or that may hold such a field by its
    bytes, is read through.

    Raises:
        ValueError: The footer is not a Thrift struct.
    """
    reader = _Compact(footer)
    try:
        for field, kind in reader.fields():
            if field != _ROW_GROUPS:
                reader.skip(kind)
            elif not is_signed and _CRYPTO_BYTES.search(footer, reader.at) is None:
                return []
            else:
                return sorted({column for _ in reader.items() for column in _encrypted_in_group(reader)})
    except (IndexError, RecursionError):
        raise ValueError("the footer ends too early") from None
    return []


def _encrypted_in_group(reader: _Compact) -> Iterator[int]:
    for field, kind in reader.fields():
        if field != _COLUMNS:
            reader.skip(kind)
            continue
        for column, _ in enumerate(reader.items()):
            for chunk_field, chunk_kind in reader.fields():
                if chunk_field == _CRYPTO:
                    yield column
                reader.skip(chunk_kind)


class _Compact:
    """A cursor over Thrift's compact protocol that knows types and no meaning."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; the caller reads or skips the value before the next."""
        field = 0
        while (header := self._byte()) != _STOP:
            delta, kind = header >> 4, header & 0x0F
            field = field + delta if delta else self._zigzag()
            yield field, kind

    def items(self) -> Iterator[int]:
        """The type of each item of a list; the caller reads or skips the item before the next."""
        size, kind = self._list_header()
        for _ in range(size):
            yield kind

    def skip(self, kind: int, *, in_list: bool = False) -> None:
        if kind in _FIXED_WIDTH:
            self.at += _FIXED_WIDTH[kind]
        elif kind in (_TRUE, _FALSE):
            self.at += int(in_list)
        elif kind == _BINARY:
            length = self._varint()  # moves `at`, so it cannot stand in the next line
            self.at += length
        elif kind in (_LIST, _SET):
            size, item = self._list_header()
            for _ in range(size):
                self.skip(item, in_list=True)
        elif kind == _MAP:
            self._skip_map()
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        else:
            self._varint()

    def _skip_map(self) -> None:
        size = self._varint()
        kinds = self._byte() if size else 0
        for _ in range(size):
            self.skip(kinds >> 4, in_list=True)
            self.skip(kinds & 0x0F, in_list=True)

    def _list_header(self) -> tuple[int, int]:
        header = self._byte()
        size = header >> 4
        return (self._varint() if size == 15 else size), header & 0x0F

    def _byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
