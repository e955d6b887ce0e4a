"""Files of the input as they were when the plan was made."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.core.units import FileIdentity
from reranker_batch.storage.input.columns import FileColumns
from reranker_batch.storage.input.likely_ids import LikelyIds
from reranker_batch.storage.input.origin import Origin
from reranker_batch.storage.input.partitions import Partitions


@dataclass(frozen=True)
class InputFile:
    """A file by its `path` relative to the plan's root."""

    path: str
    num_rows: int
    identity: FileIdentity
    row_group_rows: tuple[int, ...]
    row_group_pairs: tuple[int, ...]
    """According to the footer; a row whose list is null or empty counts as one pair."""
    unpacked_bytes: int = 0
    """Of all columns, according to the footer."""


@dataclass(frozen=True)
class OpenedFile:
    """A file and the contents of its footer."""

    file: InputFile
    columns: FileColumns
    schema: pa.Schema
    """All columns, those of its folders too, in canonical types."""
    has_null_ids: bool
    constants: Partitions
    """The columns of the file that stand in the names of its folders."""
    likely_ids: LikelyIds
    origin: Origin | None = None
