"""Rows of pairs in memory, brought together by query."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.config.columns import Columns
from reranker_batch.core.ragged import LongArray
from reranker_batch.storage.input.query_runs import begins_query
from reranker_batch.storage.values import conform, id_strings

QUERY_ID, DOC_ID = "query_id", "doc_id"


def query_order(table: pa.Table, names: Columns) -> LongArray | None:
    """The rows with those of each query together; None where they are already.

    Queries keep the order in which they first appear, and the rows of a query theirs. A query is told by its id, or by
    its text where there is no id column; a row without either comes together with equal neighbours only.
    """
    keys, begins = _keys(table, names)
    starts = np.flatnonzero(begins)
    run_keys = keys.take(pa.array(starts))
    codes = run_keys.dictionary_encode().indices
    is_named = codes.is_valid().to_numpy(zero_copy_only=False)
    named = codes.drop_null().to_numpy()
    first_run = np.arange(len(starts), dtype=np.int64)
    _, firsts, inverse = np.unique(named, return_index=True, return_inverse=True)
    if len(firsts) == len(named):
        return None
    first_run[is_named] = np.flatnonzero(is_named)[firsts][inverse]
    return np.argsort(first_run[np.cumsum(begins) - 1], kind="stable").astype(np.int64)


def with_ids(table: pa.Table, names: Columns, order: LongArray, file: str) -> pa.Table:
    """The rows in this order, with columns `query_id` and `doc_id`; ids that are missing are made of the old places."""
    rows = table.take(pa.array(order))
    _, begins = _keys(rows, names)
    starts = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    index = np.arange(len(rows), dtype=np.int64) - starts[run] if len(rows) else np.empty(0, dtype=np.int64)
    made_query = _joined(f"{file}#", order[starts[run]] if len(rows) else order)
    made_doc = pc.binary_join_element_wise(_joined(f"{file}#", order), _joined("", index), _text("/"))
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    return pa.table(
        columns
        | {
            QUERY_ID: _or_made(columns.get(names.query_id or ""), made_query),
            DOC_ID: _or_made(columns.get(names.doc_id or ""), made_doc),
        }
    )


def _keys(table: pa.Table, names: Columns) -> tuple[pa.Array, np.ndarray]:
    texts = conform(table[names.query].combine_chunks(), pa.large_string())
    if names.query_id not in table.column_names:
        return texts, begins_query(None, texts)
    ids = id_strings(table[names.query_id].combine_chunks())
    return ids, begins_query(ids, texts)


def _or_made(ids: pa.Array | None, made: pa.Array) -> pa.Array:
    return made if ids is None else pc.coalesce(id_strings(ids), made)


def _joined(before: str, numbers: LongArray) -> pa.Array:
    return pc.binary_join_element_wise(_text(before), pa.array(numbers).cast(pa.large_string()), _text(""))


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())
