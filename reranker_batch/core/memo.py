"""Rows of a memo: the logit and the token counts of a pair, by hashes of its two texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MemoRows = npt.NDArray[np.void]
"""An array of `MEMO_DTYPE`."""
KeyArray = npt.NDArray[np.uint64]
"""Shape [texts, 2]: the two halves of a 128-bit hash."""

QUERY_CUT, DOCUMENT_CUT, PAIR_CUT = 1, 2, 4
"""Bits of `cut`: the query or the document lost tokens to the item maximum, or one of them to that of the pair."""
MAX_NIGHTS = (1 << 16) - 1

MEMO_DTYPE = np.dtype(
    [
        ("q0", np.uint64),
        ("q1", np.uint64),
        ("d0", np.uint64),
        ("d1", np.uint64),
        ("logit", np.float32),
        ("query_item_tokens", np.int32),
        ("document_item_tokens", np.int32),
        ("query_tokens", np.int32),
        ("document_tokens", np.int32),
        ("nights", np.uint16),
        ("cut", np.uint8),
        ("chunks", np.uint8),
        ("best_chunk", np.uint8),
        ("best_chunk_start", np.int32),
        ("best_chunk_end", np.int32),
        ("tokens_read", np.int32),
    ],
    align=True,
)
"""Item tokens are counted after the cut to the item maximum, the other two after that to the pair maximum. `nights`
counts the runs since the pair was scored: 0 in the run that scored it. The last five are 0 unless long documents are
cut into chunks; `core.pair_inputs` says what they are."""

MEMO_COLUMN = "_memo"
"""Of a unit's candidates: a memo row each, whose logit counts where it is known."""
KEY_NAMES = ("q0", "q1", "d0", "d1")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that nothing of a query's hash is lost, and a text paired with itself is no special case."""


def memo_fields() -> list[pa.Field]:
    """The columns of a memo part, in order."""
    return [pa.field(name, pa.from_numpy_dtype(MEMO_DTYPE[name]), nullable=False) for name in MEMO_DTYPE.names or ()]


def memo_table(rows: MemoRows) -> pa.Table:
    """A column for each field."""
    fields = memo_fields()
    columns = [pa.array(np.ascontiguousarray(rows[field.name]), field.type) for field in fields]
    return pa.table(columns, schema=pa.schema(fields))


def memo_rows(table: pa.Table) -> MemoRows:
    """The rows of a table with the columns of `memo_table`; further columns are ignored."""
    rows = np.zeros(len(table), MEMO_DTYPE)
    for name in MEMO_DTYPE.names or ():
        rows[name] = table.column(name).to_numpy()
    return rows


def to_column(rows: MemoRows) -> pa.Array:
    """The rows as one column of a table of candidates, which is filtered and moved with it; nothing is copied."""
    content = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(MEMO_DTYPE.itemsize), len(rows), [None, content])


def from_column(column: pa.Array | pa.ChunkedArray) -> MemoRows:
    """The rows of a column that `to_column` made; read-only."""
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    if not len(array):
        return np.zeros(0, MEMO_DTYPE)
    rows = np.frombuffer(array.buffers()[1], MEMO_DTYPE)
    return rows[array.offset : array.offset + len(array)]


def in_order(rows: MemoRows) -> MemoRows:
    """The rows by query and document, one for each distinct pair: the first."""
    if not len(rows):
        return rows
    ordered = rows[np.lexsort((rows["d0"], rows["q0"]))]
    is_new = np.ones(len(ordered), dtype=np.bool_)
    is_new[1:] = ~same_pairs(ordered[1:], ordered[:-1])
    return ordered[is_new]


def same_pairs(first: MemoRows, second: MemoRows) -> npt.NDArray[np.bool_]:
    """Whether rows at the same place have equal texts: all 256 bits are compared."""
    is_same = first["q0"] == second["q0"]
    for name in KEY_NAMES[1:]:
        is_same &= first[name] == second[name]
    return np.asarray(is_same, dtype=np.bool_)


def pair_hashes(rows: MemoRows) -> npt.NDArray[np.uint64]:
    """64 bits of each pair, to look for; equal hashes are not yet equal pairs."""
    return mixed(rows["q0"], rows["d0"])


def mixed(query: npt.NDArray[Any], document: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """One number of the first halves of two hashes."""
    with np.errstate(over="ignore"):
        return np.asarray(query * _MULTIPLIER + document, dtype=np.uint64)


def query_starts(rows: MemoRows) -> npt.NDArray[np.int64]:
    """Where each query begins in rows that are in order."""
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.concatenate([[True], rows["q0"][1:] != rows["q0"][:-1]]))


@dataclass(frozen=True)
class PairTokens:
    """What tokenizing came to for some pairs; arrays of shape [pairs], named as the columns of a memo."""

    query_item_tokens: npt.NDArray[Any]
    document_item_tokens: npt.NDArray[Any]
    query_tokens: npt.NDArray[Any]
    document_tokens: npt.NDArray[Any]
    is_query_cut: npt.NDArray[np.bool_]
    is_document_cut: npt.NDArray[np.bool_]
    is_pair_cut: npt.NDArray[np.bool_]

    def fill(self, rows: MemoRows, at: npt.NDArray[np.int64]) -> None:
        """Put the counts into `rows[at]`, pairs that are still to be scored."""
        for name in ("query_item_tokens", "document_item_tokens", "query_tokens", "document_tokens"):
            rows[name][at] = getattr(self, name)
        cut = self.is_query_cut * QUERY_CUT + self.is_document_cut * DOCUMENT_CUT + self.is_pair_cut * PAIR_CUT
        rows["cut"][at] = cut
        rows["nights"][at] = 0
