"""How the rows of an input are read: as the config says, or as prepared input is always written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import pyarrow as pa

from reranker_batch.config import Columns, InputConfig, Reading
from reranker_batch.config.columns import Prepared
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.storage.input.columns import candidate_struct

PREPARED_KEY = b"reranker_batch.prepared"
"""In the metadata of a Parquet file that this program has prepared as input."""

PREPARING, CONVERTING = "_work", "_tasks"
"""Folders next to the parts of prepared input until it is complete."""

LIST_COLUMN = "list"
"""Of a candidate, where there are several lists: the name of its own."""

DOCUMENT_COLUMNS = ("text", "document")
"""Of prepared input; the second where a passthrough column has the name of the first."""


def plain_reading(config: InputConfig) -> Reading:
    """As the config says.

    Raises:
        ConfigError: Its columns are not names alone, so that the files cannot be read as they are.
    """
    names = config.columns.plain()
    if names is None:
        raise ConfigError(
            "input.columns has positions, several lists or joined columns, which tables that are read as they are "
            "cannot have. Name one column for each key."
        )
    return Reading(layout=config.layout, columns=names)


def reading_of(config: InputConfig, files: Iterable[tuple[str, pa.Schema, Prepared | None]]) -> Reading:
    """How these files are read, each given by name, schema and mark.

    Raises:
        InputError: Some of the files are prepared input and some are not.
        ConfigError: As `plain_reading`.
    """
    marks: dict[Prepared | None, tuple[str, pa.Schema]] = {}
    for name, schema, prepared in files:
        marks.setdefault(prepared, (name, schema))
    if len(marks) > 1:
        (one, _), (other, _) = [*marks.values()][:2]
        raise InputError(
            f"{one} and {other} are not of the same kind: one is input that this program has prepared, the other is "
            "not, or was prepared in another way. Put them into folders of their own."
        )
    prepared, (_, schema) = next(iter(marks.items()), (None, ("", pa.schema([]))))
    return plain_reading(config) if prepared is None else _prepared_reading(config, schema, prepared)


def mark_of(metadata: dict[bytes, bytes] | None) -> Prepared | None:
    """The mark in the metadata of a Parquet file, None where it has none."""
    value = (metadata or {}).get(PREPARED_KEY, b"").decode(errors="replace")
    return next((mark for mark in get_args(Prepared) if mark == value), None)


def marked(table: pa.Table, prepared: Prepared | None) -> pa.Table:
    """The table with this mark in its metadata, or none."""
    return table.replace_schema_metadata(None if prepared is None else {PREPARED_KEY: prepared.encode()})


def _prepared_reading(config: InputConfig, schema: pa.Schema, prepared: Prepared) -> Reading:
    is_nested = "candidates" in schema.names
    struct = candidate_struct(schema.field("candidates").type) if is_nested else None
    inner = schema.names if struct is None else [field.name for field in struct]
    plain, other = DOCUMENT_COLUMNS
    passthrough = list(config.columns.passthrough)
    if LIST_COLUMN in inner and LIST_COLUMN not in passthrough:
        passthrough.append(LIST_COLUMN)
    names = Columns(document=other if other in inner else plain, passthrough=passthrough)
    return Reading(layout="nested" if is_nested else "pairs", columns=names, prepared=prepared)
