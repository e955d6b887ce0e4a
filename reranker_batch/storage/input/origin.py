"""Where the rows of a converted file came from, for messages and for ids that are made of places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ORIGIN_KEY = b"reranker_batch.origin"
"""In the metadata of a Parquet file of rows that all came from one other file."""
PLACE_COLUMN = "_place"
"""Of rows that were read: file, `#` and row of their source. No file has it."""


@dataclass(frozen=True)
class Origin:
    """The file that rows came from, and which of its rows, counted from 0, is the first of them."""

    file: str
    first_row: int

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes] | None) -> Origin | None:
        """From the metadata of a file; None where it says nothing."""
        value = (metadata or {}).get(ORIGIN_KEY)
        return None if value is None else cls(*json.loads(value))

    def metadata(self) -> dict[bytes, bytes]:
        return {ORIGIN_KEY: json.dumps(astuple(self)).encode()}

    def places(self, start: int, count: int) -> pa.Array:
        """Of rows that follow each other from `start` on."""
        rows = pa.array(np.arange(count, dtype=np.int64) + self.first_row + start).cast(pa.large_string())
        file, nothing = (pa.scalar(text, pa.large_string()) for text in (f"{self.file}#", ""))
        return pc.binary_join_element_wise(file, rows, nothing)
