"""Memo parts: what a unit's pairs came to, by their texts, for later runs that meet the same pairs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, TypeAdapter

from reranker_batch.core.memo import KEY_NAMES, KeyArray, MemoRows, in_order, memo_fields, memo_rows, memo_table
from reranker_batch.core.report import MemoFile
from reranker_batch.errors import CommitError, ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.parts import MEMO, PartRecord, part_name, publish_part

MEMO_VERSION = 1
"""Counts up whenever a column of a memo changes its name, type or meaning. Further columns need no new version."""
PAIRS = "pairs"
"""The kind of scores that can be reused: one logit a pair, that nothing else of a request has a part in."""
Result = TypeVar("Result")

_METADATA_KEY = b"reranker_batch_memo"
_REMEDY = "Set reuse.from to another output, or to null for a full run."
_MAX_DICTIONARY_BYTES = 64 << 20


@dataclass(frozen=True)
class MemoStamp:
    """How the rows of a memo part are to be read, as its footer says.

    A scorer that does not give one logit a pair writes a `kind` of its own, with further columns where it needs them:
    pieces of split documents, or the request of a listwise score. Who does not know the kind reuses nothing.
    """

    __pydantic_config__ = ConfigDict(extra="ignore")

    scoring_fingerprint: str
    kind: str = PAIRS
    version: int = MEMO_VERSION

    def differences(self, scoring_fingerprint: str) -> list[str]:
        """Why its rows are not those that a run with this fingerprint would write; empty where they are."""
        lines = []
        if self.version != MEMO_VERSION:
            lines.append(f"memo version: {self.version} -> {MEMO_VERSION}")
        if self.kind != PAIRS:
            lines.append(f"kind of scores: {self.kind} -> {PAIRS}")
        if self.scoring_fingerprint != scoring_fingerprint:
            lines.append(f"scoring fingerprint: {self.scoring_fingerprint[:12]} -> {scoring_fingerprint[:12]}")
        return lines


_STAMP = TypeAdapter(MemoStamp)


def publish_memo(output: Folder, rows: MemoRows, record: PartRecord, *, scoring_fingerprint: str) -> MemoFile:
    """Write the pairs of a unit, in any order and with repeats, as its memo part. A second call replaces it.

    Raises:
        CommitError: As `publish_part`.
    """
    distinct = in_order(rows)
    stamp = json.dumps(asdict(MemoStamp(scoring_fingerprint)), sort_keys=True).encode()
    schema = pa.schema(memo_fields(), metadata={_METADATA_KEY: stamp})
    part = publish_part(output, MEMO, memo_table(distinct), schema, record, write_options=_encodings(distinct))
    return part.as_memo()


def _encodings(rows: MemoRows) -> dict[str, Any]:
    """Hashes do not compress: a dictionary is worth it only where they repeat."""
    dictionary = [field.name for field in memo_fields() if field.name not in ("logit", *KEY_NAMES)]
    for first, second in (KEY_NAMES[:2], KEY_NAMES[2:]):
        dictionary += [first, second] if _has_repeats(rows[first]) else []
    plain = {name: "PLAIN" for name in KEY_NAMES if name not in dictionary}
    return {
        "use_dictionary": dictionary,
        "dictionary_pagesize_limit": _MAX_DICTIONARY_BYTES,
        "column_encoding": {"logit": "BYTE_STREAM_SPLIT", **plain},
        "write_statistics": False,
    }


def _has_repeats(values: np.ndarray[Any, Any]) -> bool:
    """Whether a dictionary with an index takes fewer bits than the values themselves."""
    distinct = len(np.unique(values))
    return distinct * 64 + len(values) * math.log2(max(distinct, 2)) < len(values) * 64


def read_memo(output: Folder, unit_id: str, *, sha256: str) -> MemoRows:
    """Rows of a memo part in the order of their hashes, compared with the hash on record before they are used.

    Raises:
        CommitError: The part is missing, or not the one that was published.
        ConfigError: It is of a version or kind that cannot be reused.
    """
    path = output.child(MEMO, part_name(unit_id))
    content = _tried(lambda: _content(output, path), path, unit_id)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CommitError(f"{path} is not the file that its run recorded. {_REMEDY}", unit_id=unit_id)
    file = pq.ParquetFile(pa.BufferReader(content))
    stamp = _stamp_of(file, path, unit_id)
    if lines := stamp.differences(stamp.scoring_fingerprint):
        raise ConfigError(f"{path} cannot be reused: {', '.join(lines)}. {_REMEDY}", unit_id=unit_id)
    return memo_rows(file.read(columns=[field.name for field in memo_fields()], use_threads=False))


def read_memo_queries(output: Folder, unit_id: str) -> tuple[MemoStamp, KeyArray]:
    """The stamp of a memo part and the first half of the hash of each of its queries, ascending.

    Reads the footer and one small column, which are not compared with any hash: what they promise is looked up again
    in rows that are.

    Raises:
        CommitError: The part is missing or damaged.
    """
    path = output.child(MEMO, part_name(unit_id))

    def read() -> tuple[MemoStamp, KeyArray]:
        with output.filesystem.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            stamp = _stamp_of(file, path, unit_id)
            if stamp.differences(stamp.scoring_fingerprint):
                return stamp, np.empty(0, dtype=np.uint64)
            return stamp, np.unique(file.read(columns=["q0"], use_threads=False).column("q0").to_numpy())

    return _tried(read, path, unit_id)


def _content(output: Folder, path: str) -> pa.Buffer:
    with output.filesystem.open_input_file(path) as source:
        return source.read_buffer()


def _stamp_of(file: pq.ParquetFile, path: str, unit_id: str) -> MemoStamp:
    try:
        return _STAMP.validate_json((file.schema_arrow.metadata or {})[_METADATA_KEY])
    except (KeyError, ValueError):
        raise CommitError(f"{path} is no memo of this program. {_REMEDY}", unit_id=unit_id) from None


def _tried(call: Callable[[], Result], path: str, unit_id: str) -> Result:
    try:
        return retried(call, f"Reading {path}")
    except FileNotFoundError:
        raise CommitError(f"{path} is missing. {_REMEDY}", unit_id=unit_id) from None
    except (OSError, pa.ArrowException, KeyError) as error:
        raise CommitError(f"{path} is damaged: {error}. {_REMEDY}", unit_id=unit_id) from error
