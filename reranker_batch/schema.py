"""Column names and Arrow schemas of the output and the dead letters."""

from __future__ import annotations

import pyarrow as pa

RESULT_FIELDS = [
    pa.field("doc_id", pa.string()),
    pa.field("index", pa.int32()),
    pa.field("rank", pa.int32()),
    pa.field("relevance_score", pa.float32()),
    pa.field("logit", pa.float32()),
    pa.field("query_tokens", pa.int32()),
    pa.field("document_tokens", pa.int32()),
    pa.field("truncated", pa.bool_()),
]
CHUNK_FIELDS = [
    pa.field("chunks", pa.int32()),
    pa.field("best_chunk", pa.int32()),
    pa.field("best_chunk_start", pa.int32()),
    pa.field("best_chunk_end", pa.int32()),
    pa.field("tokens_read", pa.int32()),
]
"""Of a candidate, where long documents are cut into chunks: how many it has, from 0 the one whose logit counts, which
characters of the document it is, and how many of the document's tokens are in at least one chunk."""
CHUNK_NAMES = tuple(field.name for field in CHUNK_FIELDS)
DOCUMENT_FIELD = pa.field("document", pa.string())
QUERY_ID_FIELD = pa.field("query_id", pa.string())
PLACE_FIELDS = [pa.field("file", pa.string()), pa.field("row", pa.int64())]
"""Where a query begins in the input: the file by its path below the input's root, the row counted from 0."""
USAGE_FIELDS = [
    pa.field("total_tokens", pa.int64()),
    pa.field("requests", pa.int32()),
    pa.field("request_ids", pa.list_(pa.string())),
    pa.field("code", pa.string()),
    pa.field("message", pa.string()),
]

CUT_FIELD = pa.field("_cut", pa.uint8())
"""Of a candidate on its way: which of its texts were cut, in the bits of a memo row."""

SCHEMA_VERSION = 2
"""Counts up whenever a column of the output changes its name, type or meaning."""

RESERVED_NAMES = frozenset(
    field.name
    for field in [
        QUERY_ID_FIELD,
        *PLACE_FIELDS,
        *RESULT_FIELDS,
        *CHUNK_FIELDS,
        DOCUMENT_FIELD,
        *USAGE_FIELDS,
        pa.field("results", pa.null()),
        CUT_FIELD,
    ]
)
"""Names that a passthrough column cannot take."""


def pairs_schema(passthrough: list[pa.Field], *, return_documents: bool, has_chunks: bool = False) -> pa.Schema:
    """A row per kept candidate."""
    document = [DOCUMENT_FIELD] if return_documents else []
    chunks = CHUNK_FIELDS if has_chunks else []
    return pa.schema([QUERY_ID_FIELD, *RESULT_FIELDS, *chunks, *passthrough, *document])


def nested_schema(
    query_passthrough: list[pa.Field],
    candidate_passthrough: list[pa.Field],
    *,
    return_documents: bool,
    has_chunks: bool = False,
) -> pa.Schema:
    """A row per query; `results` holds its kept candidates by rank."""
    document = [DOCUMENT_FIELD] if return_documents else []
    chunks = CHUNK_FIELDS if has_chunks else []
    result = pa.struct([*RESULT_FIELDS, *chunks, *candidate_passthrough, *document])
    of_query = [QUERY_ID_FIELD, *PLACE_FIELDS, pa.field("results", pa.list_(result)), *USAGE_FIELDS]
    return pa.schema([*of_query, *query_passthrough])


DEAD_LETTER_FIELDS = [
    pa.field("query_id", pa.string()),
    pa.field("doc_id", pa.string()),
    pa.field("index", pa.int32()),
    *PLACE_FIELDS,
    pa.field("reason_code", pa.string()),
    pa.field("message", pa.string()),
]


def dead_letter_schema(row_type: pa.DataType) -> pa.Schema:
    """A row per refused candidate. `input` is the input row with this one candidate, all columns kept."""
    return pa.schema([*DEAD_LETTER_FIELDS, pa.field("input", row_type)])


def canonical_type(data_type: pa.DataType) -> pa.DataType:
    """The plain type that stands for all encodings of the same values.

    Large, view and dictionary forms of strings, bytes and lists become `large_string`, `large_binary` and
    `large_list`, at any depth, so that 32-bit offsets never overflow while a unit is handled. UUIDs and JSON,
    the extension types of Parquet itself, become their text. All other types stay.
    """
    if pa.types.is_dictionary(data_type):
        return canonical_type(data_type.value_type)
    if is_string_like(data_type) or isinstance(data_type, pa.JsonType | pa.UuidType):
        return pa.large_string()
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return pa.large_binary()
    if pa.types.is_map(data_type):
        return pa.map_(canonical_type(data_type.key_type), canonical_type(data_type.item_type))
    if is_list_like(data_type):
        return pa.large_list(canonical_type(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([canonical_field(field) for field in data_type])
    return data_type


def canonical_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, canonical_type(field.type))


def output_type(data_type: pa.DataType) -> pa.DataType:
    """`canonical_type` with the short forms that readers of the output know best."""
    if pa.types.is_large_string(data_type):
        return pa.string()
    if pa.types.is_large_binary(data_type):
        return pa.binary()
    if pa.types.is_map(data_type):
        return pa.map_(output_type(data_type.key_type), output_type(data_type.item_type))
    if pa.types.is_large_list(data_type):
        return pa.list_(output_field(data_type.value_field))
    if pa.types.is_struct(data_type):
        return pa.struct([output_field(field) for field in data_type])
    return data_type


def output_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, output_type(field.type))


def is_string_like(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        return is_string_like(data_type.value_type)
    return bool(
        pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type)
    )


def is_list_like(data_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(data_type)
        or pa.types.is_large_list(data_type)
        or pa.types.is_fixed_size_list(data_type)
        or pa.types.is_list_view(data_type)
        or pa.types.is_large_list_view(data_type)
    )
