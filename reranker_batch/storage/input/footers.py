"""Open Parquet files: never run code from them, and never read another file than the planned one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from reranker_batch.core.units import FileIdentity
from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.input.encryption import encrypted_columns
from reranker_batch.storage.input.hints import disarmed, original_schema

MAGIC, ENCRYPTED_MAGIC = b"PAR1", b"PARE"
_TAIL_BYTES = 1 << 16
_READ_BUFFER_BYTES = 8 << 20
_CHECKED_ROWS = 64
_SHOWN_COLUMNS = 5


@dataclass(frozen=True)
class Footer:
    """The footer of a Parquet file."""

    metadata: pq.FileMetaData
    schema: pa.Schema
    """Strings and lists are `large_`, there are no dictionaries, views or fixed-size lists; durations and time zones
    are those of the writer."""
    digest: str
    """SHA-256 of the footer's bytes."""
    size_bytes: int


@dataclass(frozen=True)
class OpenedParquet:
    """A file whose pages can be read. `footer.schema` may know more of a type than `parquet` reads it with."""

    parquet: pq.ParquetFile
    footer: Footer
    file: pa.NativeFile

    def in_nanoseconds(self) -> pq.ParquetFile:
        """The same pages with INT96 timestamps as nanoseconds; years far away become others."""
        return _parquet_file(self.file, self.footer.metadata, int96_unit="ns")


def read_footer(filesystem: fs.FileSystem, path: str) -> Footer:
    """Read the last bytes of a file, in one or two reads.

    Raises:
        InputError: The file is not Parquet, is damaged, has encrypted columns, or holds extension types. The message
            does not name the file, its caller does.
        OSError: The file cannot be read.
    """
    with filesystem.open_input_file(path) as file:
        return _footer_of(file)


@contextmanager
def open_parquet(filesystem: fs.FileSystem, path: str, identity: FileIdentity) -> Iterator[OpenedParquet]:
    """Open a file for reading in bounded memory: page by page, with checksums where the writer left any.

    The footer is read from the very handle that the pages come from; when all has been read, the file's size and time
    are looked at too, so that a file that was replaced meanwhile is noticed.

    Raises:
        InputError: The file cannot be read, or is not the one of `identity`. The message names it.
    """
    try:
        with filesystem.open_input_file(path) as file:
            footer = _planned_footer(file, path, identity)
            with _parquet_file(file, metadata=footer.metadata) as parquet:
                yield OpenedParquet(parquet, footer, file)
        _refuse_changes(path, identity, _present_identity(filesystem, path, identity))
    except (pa.ArrowException, OSError) as error:
        _refuse_changes(path, identity, _identity_after(error, filesystem, path, identity))
        raise InputError(f"{path} cannot be read: {first_line(error)}.") from error


def check_pages(filesystem: fs.FileSystem, path: str, identity: FileIdentity) -> None:
    """Unpack every page of a file whose footer has been read, once, in bounded memory.

    Raises:
        InputError: A page cannot be unpacked or does not match its checksum. The message does not name the file.
    """
    with open_parquet(filesystem, path, identity) as opened:
        try:
            for _ in opened.parquet.iter_batches(batch_size=_CHECKED_ROWS, use_threads=False):
                pass
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"its pages cannot be read ({first_line(error)})") from error


def _changed(path: str, what: str) -> InputError:
    return InputError(
        f"{path} has changed since the plan was made: {what}. Put the original back, or start again with another "
        "output.path."
    )


def _refuse_changes(path: str, planned: FileIdentity, now: FileIdentity) -> None:
    if changes := planned.changes_in(now):
        raise _changed(path, ", ".join(changes))


def _planned_footer(file: pa.NativeFile, path: str, identity: FileIdentity) -> Footer:
    try:
        footer = _footer_of(file)
    except InputError as error:
        raise _changed(path, str(error)) from None
    _refuse_changes(path, identity, FileIdentity(footer.size_bytes, None, footer.digest))
    return footer


def _present_identity(filesystem: fs.FileSystem, path: str, planned: FileIdentity) -> FileIdentity:
    """Current size and time according to the store; the footer is assumed to be the planned one."""
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"{path} is gone")
    return FileIdentity(planned.size_bytes if info.size is None else info.size, info.mtime_ns, planned.footer_digest)


def _identity_after(error: Exception, filesystem: fs.FileSystem, path: str, planned: FileIdentity) -> FileIdentity:
    """The file's identity after a failed read; raises InputError with `error` if that cannot be read either."""
    try:
        return _present_identity(filesystem, path, planned)
    except OSError:
        raise InputError(f"{path} cannot be read: {first_line(error)}.") from error


def _footer_of(file: pa.NativeFile) -> Footer:
    size_bytes = file.size()
    raw = _footer_bytes(file, size_bytes)
    whole = disarmed(raw)
    try:
        source = pa.BufferReader(MAGIC + whole + len(whole).to_bytes(4, "little") + MAGIC)
        with _parquet_file(source) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
        _refuse_encrypted(raw, metadata)
        schema = original_schema(metadata, schema)
    except UnicodeDecodeError as error:
        raise InputError(f"the name of a column is not valid UTF-8: {_shown_bytes(error)}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"its footer is damaged ({first_line(error)})") from None
    _refuse_missing_bytes(metadata, size_bytes - len(raw) - 8)
    return Footer(metadata, schema, hashlib.sha256(raw).hexdigest(), size_bytes)


def _shown_bytes(error: UnicodeDecodeError) -> str:
    return repr(error.object[:60])


def _parquet_file(
    source: pa.NativeFile, metadata: pq.FileMetaData | None = None, *, int96_unit: str = "us"
) -> pq.ParquetFile:
    return pq.ParquetFile(
        source,
        metadata=metadata,
        binary_type=pa.large_binary(),
        list_type=pa.LargeListType,
        coerce_int96_timestamp_unit=int96_unit,  # in nanoseconds the years before 1677 and after 2262 become others
        arrow_extensions_enabled=True,
        page_checksum_verification=True,
        pre_buffer=False,  # it would hold whole column chunks
        buffer_size=_READ_BUFFER_BYTES,
    )


def _footer_bytes(file: pa.NativeFile, size_bytes: int) -> bytes:
    if size_bytes == 0:
        raise InputError("it is empty (0 bytes)")
    tail = _read_at(file, max(0, size_bytes - _TAIL_BYTES), min(size_bytes, _TAIL_BYTES))
    if tail[-4:] == ENCRYPTED_MAGIC:
        raise InputError("it is encrypted")
    if size_bytes < 12 or tail[-4:] != MAGIC:
        raise InputError("it does not end like a Parquet file: truncated, still being written, or another format")
    length = int.from_bytes(tail[-8:-4], "little")
    if length > size_bytes - 12:
        raise InputError(f"its footer claims {length} bytes, the file has {size_bytes}: damaged")
    if length + 8 > len(tail):
        return _read_at(file, size_bytes - 8 - length, length)
    return tail[-8 - length : -8]


def _read_at(file: pa.NativeFile, offset: int, length: int) -> bytes:
    data = bytes(file.read_at(length, offset))
    if len(data) < length:
        raise InputError(f"{length} bytes were asked for and {len(data)} came")
    return data


def _refuse_encrypted(raw: bytes, metadata: pq.FileMetaData) -> None:
    """Before anything else looks at a column. Behind the Thrift of a signed footer stands its signature."""
    if columns := encrypted_columns(raw, is_signed=metadata.serialized_size != len(raw)):
        names = ", ".join(repr(metadata.schema.column(column).path) for column in columns[:_SHOWN_COLUMNS])
        more = f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
        raise InputError(f"column {names}{more} is encrypted. Write the file without encryption")


def _refuse_missing_bytes(metadata: pq.FileMetaData, data_stop: int) -> None:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if any(group.num_rows < 0 for group in groups) or sum(group.num_rows for group in groups) != metadata.num_rows:
        raise InputError(f"its footer claims {metadata.num_rows} rows, its row groups have another number")
    for number, group in enumerate(groups):
        if metadata.num_columns == 0:
            return
        column = group.column(metadata.num_columns - 1)
        start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        if start + column.total_compressed_size > data_stop:
            raise InputError(f"row group {number} ends behind the end of the data: bytes are missing")
