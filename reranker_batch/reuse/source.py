"""The memo of an earlier output, and where each of its queries is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.memo import KeyArray, MemoRows
from reranker_batch.core.report import MemoFile
from reranker_batch.errors import ConfigError
from reranker_batch.reuse.index import QueryIndex
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.memo import MemoStamp, read_memo, read_memo_queries
from reranker_batch.storage.output.scratch import Scratch

_THREADS = 8
_INDEX, _PARTS = "index", "parts"


@dataclass(frozen=True)
class MemoParts:
    """Names and hashes of memo parts, in the order of their units."""

    unit_ids: Sequence[str]
    sha256: Sequence[str]

    @classmethod
    def of(cls, files: Mapping[str, MemoFile]) -> MemoParts:
        """`files` is what the report of the earlier run lists, by unit."""
        unit_ids = sorted(files)
        return cls(unit_ids, [files[unit_id].sha256 for unit_id in unit_ids])

    def __len__(self) -> int:
        return len(self.unit_ids)

    def save(self, scratch: Scratch) -> None:
        table = pa.table({"unit_id": self.unit_ids, "sha256": self.sha256})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        scratch.write(_PARTS, [sink.getvalue()])


@dataclass(frozen=True)
class MemoSource:
    """An earlier output whose memo is looked up. Travels between processes as two paths alone."""

    output: Folder
    scratch: Scratch

    @property
    def index(self) -> QueryIndex:
        return _index(self.scratch)

    @property
    def parts(self) -> MemoParts:
        return _parts(self.scratch)

    def read(self, number: int) -> MemoRows:
        """Rows of a part by its number. Raises CommitError when it is not the part on record."""
        return read_memo(self.output, self.parts.unit_ids[number], sha256=self.parts.sha256[number])

    def near(self, unit_id: str) -> int:
        """The part that begins where this unit does, or just before: ids of units sort as the input does."""
        ids = self.parts.unit_ids
        return max(0, int(np.searchsorted(np.asarray(ids, dtype=object), unit_id, side="right")) - 1)


def open_source(
    output: Folder, files: Mapping[str, MemoFile], scratch: Scratch, *, scoring_fingerprint: str
) -> MemoSource:
    """Read the queries of all memo parts and leave an index in the scratch folder.

    Raises:
        ConfigError: A part holds scores of other settings, of another kind or in another version; the message lists
            the differences.
        CommitError: A part is missing or damaged.
    """
    parts = MemoParts.of(files)
    read = _checked_reader(output, scoring_fingerprint)
    with ThreadPoolExecutor(_THREADS) as threads:
        QueryIndex.of(threads.map(read, parts.unit_ids)).save(scratch, _INDEX)
    parts.save(scratch)
    return MemoSource(output, scratch)


def _checked_reader(output: Folder, scoring_fingerprint: str) -> Callable[[str], KeyArray]:
    def read(unit_id: str) -> KeyArray:
        stamp, queries = read_memo_queries(output, unit_id)
        _require(stamp, scoring_fingerprint, f"The memo of unit {unit_id} in {output.uri}")
        return queries

    return read


def _require(stamp: MemoStamp, scoring_fingerprint: str, name: str) -> None:
    if lines := stamp.differences(scoring_fingerprint):
        raise ConfigError(f"{name} cannot be reused:\n  " + "\n  ".join(lines))


@lru_cache(maxsize=2)
def _index(scratch: Scratch) -> QueryIndex:
    return QueryIndex.load(scratch, _INDEX)


@lru_cache(maxsize=2)
def _parts(scratch: Scratch) -> MemoParts:
    table: Any = pa.ipc.open_stream(scratch.content(_PARTS)).read_all()
    return MemoParts(table["unit_id"].to_pylist(), table["sha256"].to_pylist())
