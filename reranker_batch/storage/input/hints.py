"""The Arrow schema that writers leave in a Parquet footer, read without executing anything that stands in it.

pyarrow would hand the metadata of registered extension types to Python code, and Ray's unpickle theirs. So the schema
is put out of pyarrow's sight, refused where it holds such types, and used for the types that Parquet has no word for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.errors import InputError
from reranker_batch.schema import is_list_like

_SAFE_EXTENSIONS = {"arrow.uuid", "arrow.json", "arrow.bool8", "arrow.opaque", "arrow.fixed_shape_tensor"}
"""Plain data with a label; all are read as their storage. `arrow.py_extension_type` is a pickle."""
_HINT, _DISARMED_HINT = b"ARROW:schema", b"ARROW_schema"
_NAME, _DISARMED_NAME = b"ARROW:extension:name", b"ARROW_extension_name"


def disarmed(footer: bytes) -> bytes:
    """The footer with its Arrow schema under a name that pyarrow does not know; no longer and no shorter."""
    return footer.replace(_HINT, _DISARMED_HINT)


def original_schema(metadata: pq.FileMetaData, schema: pa.Schema) -> pa.Schema:
    """`schema`, which pyarrow read from a disarmed footer, with durations and time zones as the writer had them.

    Raises:
        InputError: A column, at any depth, is of an extension type that can run code.
    """
    hint = _read_hint((metadata.metadata or {}).get(_DISARMED_HINT))
    _refuse_extensions(schema, hint)
    if hint is None:
        return schema.remove_metadata()
    fields = {field.name: field.type for field in hint}
    return pa.schema(
        [pa.field(field.name, original_type(field.type, fields.get(field.name, field.type))) for field in schema]
    )


def original_type(plain: pa.DataType, written: pa.DataType) -> pa.DataType:
    """`plain` with what only `written` knows, as far as the same values can be of that type."""
    if pa.types.is_dictionary(written):
        return original_type(plain, written.value_type)
    if pa.types.is_duration(written) and pa.types.is_int64(plain):
        return written
    if pa.types.is_timestamp(written) and pa.types.is_timestamp(plain) and written.tz and plain.tz:
        return pa.timestamp(plain.unit, written.tz)
    if pa.types.is_map(plain) and pa.types.is_map(written):
        return pa.map_(
            original_type(plain.key_type, written.key_type), original_type(plain.item_type, written.item_type)
        )
    if is_list_like(plain) and is_list_like(written):
        return pa.large_list(original_type(plain.value_type, written.value_type))
    if pa.types.is_struct(plain) and pa.types.is_struct(written):
        fields = {field.name: field.type for field in written}
        return pa.struct(
            [(field.name, original_type(field.type, fields.get(field.name, field.type))) for field in plain]
        )
    return plain


def _read_hint(encoded: bytes | None) -> pa.Schema | None:
    """None where there is none or it cannot be read, unless it names an extension type, which may not go unseen."""
    if encoded is None:
        return None
    try:
        message = base64.b64decode(encoded)
    except binascii.Error:
        return None
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(message.replace(_NAME, _DISARMED_NAME)))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        if _NAME in message:
            raise InputError("it holds an Arrow schema with extension types that cannot be read") from None
        return None
    return schema


def _refuse_extensions(*schemas: pa.Schema | None) -> None:
    places = [place for schema in schemas if schema is not None for place in _extensions(schema)]
    if unsafe := {name: kind for name, kind in places if kind not in _SAFE_EXTENSIONS}:
        listed = ", ".join(f"{name!r} is {kind!r}" for name, kind in unsafe.items())
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
