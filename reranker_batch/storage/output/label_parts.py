"""The files of labels: staged, read back, then published in one step, each with a record in its footer."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.documents import parsed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.files.staging import moved_when_whole
from reranker_batch.storage.output.crash_points import Point, reached
from reranker_batch.storage.output.parts import STAGING, part_name
from reranker_batch.storage.output.run_state import SUCCESS
from reranker_batch.storage.values import conform_table

LABELS, DROPPED = "labels", "dropped"
_KEY = b"reranker_batch_labels"
_ROW_GROUP_BYTES = 64 << 20
_POINTS: Mapping[str, Point] = {LABELS: "labels_published", DROPPED: "labels_dropped_published"}


def parquet_bytes(table: pa.Table, schema: pa.Schema, record: Mapping[str, Any] | None = None) -> pa.Buffer:
    """A Parquet file of `table`, cast to `schema`, with a record in its footer. Equal values give equal bytes."""
    metadata = {**(schema.metadata or {})}
    if record is not None:
        metadata[_KEY] = json.dumps(record, sort_keys=True, allow_nan=False).encode()
    schema = schema.with_metadata(metadata)
    sink = pa.BufferOutputStream()
    rows = max(1, min(len(table), len(table) * _ROW_GROUP_BYTES // max(table.nbytes, 1)))
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, max(len(table), 1), rows):
            writer.write_table(conform_table(table.slice(start, rows), schema))
    return sink.getvalue()


def publish_label_part(
    output: Folder, folder: str, unit_id: str, table: pa.Table, schema: pa.Schema, record: Mapping[str, Any]
) -> str:
    """Write the part of a unit in `folder`; a second call replaces it by an equal one. Its hash.

    Raises:
        CommitError: It cannot be written, or what was read back is not what was written.
    """
    content = parquet_bytes(table, schema, record)
    publish_file(output, f"{folder}/{part_name(unit_id)}", content)
    reached(_POINTS[folder])
    return hashlib.sha256(content).hexdigest()


def publish_file(output: Folder, name: str, content: pa.Buffer | bytes, *, staging: str = STAGING) -> None:
    """Write a file below `output`, which readers see whole or not at all. Raises CommitError as above."""
    final = output.child(*name.split("/"))
    retried(lambda: _publish(output, final, content, staging), f"Writing {final}")


def _publish(output: Folder, final: str, content: pa.Buffer | bytes, staging: str) -> None:
    filesystem, staged = output.filesystem, output.child(staging, uuid.uuid4().hex)
    with moved_when_whole(filesystem, staged, final):
        for folder in (output.child(staging), final.rpartition("/")[0]):
            filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(staged) as sink:
            sink.write(content)
        with filesystem.open_input_stream(staged) as source:
            if hashlib.sha256(source.read()).digest() != hashlib.sha256(content).digest():
                raise CommitError(f"{staged} does not hold what was written to it.")


@dataclass(frozen=True)
class LabelPart:
    """A part as it was read: rows, the record of its footer, and the hash of the file."""

    rows: pa.Table
    record: dict[str, Any]
    sha256: str


def read_label_part(output: Folder, folder: str, unit_id: str) -> LabelPart:
    """Read a part, page checksums checked.

    Raises:
        CommitError: It cannot be read, or is no file of labels.
    """
    path = output.child(folder, part_name(unit_id))

    def read() -> pa.Buffer:
        with output.filesystem.open_input_file(path) as source:
            return source.read_buffer()

    try:
        content = retried(read, f"Reading {path}")
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
        record = parsed((table.schema.metadata or {})[_KEY])
    except (OSError, pa.ArrowException) as error:
        raise CommitError(f"{path} is damaged: {error}", unit_id=unit_id) from error
    except (KeyError, ValueError):
        raise CommitError(f"{path} has no record of labels: it is a foreign file.", unit_id=unit_id) from None
    return LabelPart(table.replace_schema_metadata(None), record, hashlib.sha256(content).hexdigest())


def unit_ids_in(output: Folder, folder: str) -> list[str]:
    """The units that have a part in `folder`, in the order of the input.

    Raises:
        CommitError: The folder cannot be listed.
    """
    names = names_in(output, folder)
    parts = [name for name in names if name.startswith("part-") and name.endswith(".parquet")]
    return [name.removeprefix("part-").removesuffix(".parquet") for name in parts]


def names_in(output: Folder, folder: str = "") -> list[str]:
    """What stands directly in a folder, nothing where it is not there. Raises ConfigError or CommitError."""
    inner = (folder,) if folder else ()
    try:
        return sorted(retried(lambda: output.names(*inner), f"Listing {output.uri}"))
    except NotADirectoryError:
        raise ConfigError(f"{output.uri} is not a folder.") from None
    except OSError as error:
        raise CommitError(f"{output.uri} cannot be listed: {error}") from error


def is_marked(output: Folder) -> bool:
    """Whether the labels are complete."""
    return SUCCESS in names_in(output, LABELS)


def mark(output: Folder) -> None:
    """Drop the staging folder, then mark the labels as complete: the last thing that is written.

    Raises:
        CommitError: They cannot be marked.
    """
    drop_staging(output)
    path = output.child(LABELS, SUCCESS)
    try:
        retried(lambda: output.filesystem.open_output_stream(path).close(), f"Writing {path}")
    except OSError as error:
        raise CommitError(f"{path} cannot be written: {error}") from error
    reached("labels_marked")


def withdraw_mark(output: Folder) -> None:
    """Drop the mark if it is there. Raises CommitError when that fails."""
    path = output.child(LABELS, SUCCESS)
    try:
        with suppress(FileNotFoundError):
            output.filesystem.delete_file(path)
    except OSError as error:
        raise CommitError(f"{path} cannot be deleted: {error}") from error


def read_file(output: Folder, name: str) -> bytes:
    """The content of a file below `output`. Raises CommitError when it cannot be read."""
    path = output.child(*name.split("/"))
    try:
        with output.filesystem.open_input_stream(path) as source:
            return bytes(source.read())
    except OSError as error:
        raise CommitError(f"{path} cannot be read: {error}") from error


def drop_staging(output: Folder, staging: str = STAGING) -> None:
    """Raises CommitError when it cannot be dropped."""
    try:
        with suppress(FileNotFoundError):
            output.filesystem.delete_dir(output.child(staging))
    except OSError as error:
        raise CommitError(f"{output.uri} cannot be written: {error}") from error
