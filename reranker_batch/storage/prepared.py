"""Parts of prepared input: Parquet files of nested rows, written a row group at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.staging import moved_when_whole
from reranker_batch.storage.values import conform_table

PREPARED_KEY = b"reranker_batch.prepared"


def publish_table(
    folder: Folder,
    staging: Folder,
    name: str,
    schema: pa.Schema,
    groups: Iterable[pa.Table],
    *,
    kind: bytes | None,
    metadata: Mapping[bytes, bytes] = MappingProxyType({}),
) -> int:
    """Write a Parquet file with a row group for each table, and move it to its name; the number of rows.

    `kind` marks the file as prepared input, with further `metadata`. A file that is there is replaced by an equal one.

    Raises:
        CommitError: It cannot be written.
    """
    filesystem, final = folder.filesystem, folder.child(name)
    staged = staging.child(f"{name}-{uuid.uuid4().hex}")
    marked = schema if kind is None else schema.with_metadata({PREPARED_KEY: kind, **metadata})
    rows = 0
    with moved_when_whole(filesystem, staged, final):
        filesystem.create_dir(staging.path, recursive=True)
        with (
            filesystem.open_output_stream(staged) as sink,
            pq.ParquetWriter(sink, marked, compression="zstd", write_page_checksum=True) as writer,
        ):
            for group in groups:
                writer.write_table(conform_table(group, schema).replace_schema_metadata(marked.metadata))
                rows += len(group)
    return rows
