"""Open Parquet files without executing anything that stands in them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from reranker_batch.errors import InputError

_MAGIC = b"PAR1"
_TAIL_BYTES = 1 << 16
_READ_BUFFER_BYTES = 8 << 20
_CHECKED_ROWS = 64
_SAFE_EXTENSIONS = {"arrow.uuid", "arrow.json", "arrow.bool8", "arrow.opaque", "arrow.fixed_shape_tensor"}
"""Plain data with a label; all are read as their storage. `arrow.py_extension_type` is a pickle."""
_HINT, _DISARMED_HINT = b"ARROW:schema", b"ARROW_schema"
_NAME, _DISARMED_NAME = b"ARROW:extension:name", b"ARROW_extension_name"


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says about it."""

    metadata: pq.FileMetaData
    schema: pa.Schema
    """Plain types: strings and lists are `large_`, there are no dictionaries, views or fixed-size lists."""
    digest: str
    """SHA-256 of the footer's bytes."""
    size_bytes: int


def read_footer(filesystem: fs.FileSystem, path: str) -> Footer:
    """Read the last bytes of a file, in one or two reads.

    The Arrow schema that writers hide in the footer is put out of pyarrow's sight: pyarrow would hand the
    metadata of registered extension types to Python code, and Ray's unpickle theirs. Without it all encodings
    of strings and lists read as the same plain types, so that no later step meets a dictionary or a view.

    Raises:
        InputError: The file is not Parquet, is damaged, encrypted, or holds extension types. The message
            does not name the file, its caller does.
        OSError: The file cannot be read.
    """
    with filesystem.open_input_file(path) as file:
        size_bytes = file.size()
        raw = _footer_bytes(file, size_bytes)
    disarmed = raw.replace(_HINT, _DISARMED_HINT)
    whole = pa.BufferReader(_MAGIC + disarmed + len(disarmed).to_bytes(4, "little") + _MAGIC)
    try:
        with _parquet_file(whole) as parquet:
            metadata, schema = parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"its footer is damaged ({first_line(error)})") from None
    _refuse_extensions(metadata, schema)
    _refuse_missing_bytes(metadata, size_bytes - len(raw) - 8)
    return Footer(metadata, schema.remove_metadata(), hashlib.sha256(raw).hexdigest(), size_bytes)


@contextmanager
def open_parquet(filesystem: fs.FileSystem, path: str) -> Iterator[pq.ParquetFile]:
    """Open a file for reading in bounded memory: page by page, with checksums where the writer left any.

    Raises:
        InputError: As `read_footer`, with the path.
    """
    try:
        footer = _named_footer(filesystem, path)
        with filesystem.open_input_file(path) as file, _parquet_file(file, metadata=footer.metadata) as parquet:
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}.") from error


def check_pages(filesystem: fs.FileSystem, path: str, footer: Footer) -> None:
    """Unpack every page of a file whose footer has been read, once, in bounded memory.

    Raises:
        InputError: A page cannot be unpacked or does not match its checksum. The message does not name the file.
    """
    try:
        with filesystem.open_input_file(path) as file, _parquet_file(file, metadata=footer.metadata) as parquet:
            for _ in parquet.iter_batches(batch_size=_CHECKED_ROWS, use_threads=False):
                pass
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"its pages cannot be read ({first_line(error)})") from error


def _named_footer(filesystem: fs.FileSystem, path: str) -> Footer:
    try:
        return read_footer(filesystem, path)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}.") from None


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _parquet_file(source: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        source,
        metadata=metadata,
        binary_type=pa.large_binary(),
        list_type=pa.LargeListType,
        arrow_extensions_enabled=True,
        page_checksum_verification=True,
        pre_buffer=False,  # it would hold whole column chunks
        buffer_size=_READ_BUFFER_BYTES,
    )


def _footer_bytes(file: pa.NativeFile, size_bytes: int) -> bytes:
    if size_bytes == 0:
        raise InputError("it is empty (0 bytes)")
    tail = _read_at(file, max(0, size_bytes - _TAIL_BYTES), min(size_bytes, _TAIL_BYTES))
    if tail[-4:] == b"PARE":
        raise InputError("it is encrypted")
    if size_bytes < 12 or tail[-4:] != _MAGIC:
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


def _refuse_missing_bytes(metadata: pq.FileMetaData, data_stop: int) -> None:
    for group in range(metadata.num_row_groups):
        if metadata.num_columns == 0:
            return
        column = metadata.row_group(group).column(metadata.num_columns - 1)
        start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        if start + column.total_compressed_size > data_stop:
            raise InputError(f"row group {group} ends behind the end of the data: bytes are missing")


def _refuse_extensions(metadata: pq.FileMetaData, schema: pa.Schema) -> None:
    found = {name: kind for name, kind in _extensions(schema) if kind not in _SAFE_EXTENSIONS}
    hint = (metadata.metadata or {}).get(_DISARMED_HINT)
    if hint is not None:
        found |= _hinted_extensions(hint)
    if found:
        listed = ", ".join(f"{name!r} is {kind!r}" for name, kind in found.items())
        raise InputError(
            f"it holds Arrow extension types, which can run code when read: column {listed}. "
            "Write these columns as plain types"
        )


def _extensions(fields: pa.Schema | pa.StructType | list[pa.Field]) -> Iterator[tuple[str, str]]:
    """Name and kind of all extension types at any depth, those of the disarmed metadata too."""
    for field in fields:
        if isinstance(field.type, pa.BaseExtensionType):
            yield field.name, str(field.type.extension_name)
        elif field.metadata and _DISARMED_NAME in field.metadata:
            yield field.name, field.metadata[_DISARMED_NAME].decode(errors="replace")
        elif pa.types.is_dictionary(field.type):
            yield from _extensions([pa.field(field.name, field.type.value_type)])
        elif field.type.num_fields:
            children = [field.type.field(position) for position in range(field.type.num_fields)]
            yield from ((f"{field.name}.{name}", kind) for name, kind in _extensions(children))


def _hinted_extensions(hint: bytes) -> dict[str, str]:
    try:
        message = base64.b64decode(hint)
    except binascii.Error:
        return {}
    if _NAME not in message:
        return {}
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(message.replace(_NAME, _DISARMED_NAME)))
    except (pa.ArrowException, OSError):
        return {"?": "unreadable"}
    return {name: kind for name, kind in _extensions(schema) if kind not in _SAFE_EXTENSIONS}
