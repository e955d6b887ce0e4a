"""Decisions as Arrow tables: a row per query with its positives and negatives, a row per dropped candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.labels.candidates import Candidates
from reranker_batch.labels.deciding import Decided, is_one_of
from reranker_batch.labels.groups import count_of
from reranker_batch.labels.reasons import NEGATIVES, POSITIVES, Fate
from reranker_batch.schema import PLACE_FIELDS, QUERY_ID_FIELD

DROPPED_SCHEMA = pa.schema(
    [
        QUERY_ID_FIELD,
        *PLACE_FIELDS,
        pa.field("index", pa.int32()),
        pa.field("doc_id", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("reason", pa.string()),
    ]
)
_CODES = pa.array([fate.code for fate in Fate], pa.string())


def labels_schema(teachers: Sequence[str]) -> pa.Schema:
    """A row per query; positives and negatives are ordered by score, the highest first."""
    logits = pa.struct([pa.field(name, pa.float32()) for name in teachers])
    item = pa.struct(
        [
            pa.field("doc_id", pa.string()),
            pa.field("text", pa.string()),
            pa.field("index", pa.int32()),
            pa.field("qrel", pa.int64()),
            pa.field("logits", logits),
            pa.field("score", pa.float32()),
            pa.field("margin", pa.float32()),
            pa.field("decision", pa.string()),
        ]
    )
    lists = [pa.field(name, pa.list_(item)) for name in ("positives", "negatives")]
    return pa.schema([QUERY_ID_FIELD, pa.field("query", pa.string()), *PLACE_FIELDS, *lists])


def label_rows(candidates: Candidates, decided: Decided, teachers: Sequence[str]) -> pa.Table:
    """The queries that have positives, in the order of the input."""
    places = candidates.places
    positives, negatives = is_one_of(decided.fate, POSITIVES), is_one_of(decided.fate, NEGATIVES)
    kept = np.flatnonzero(count_of(places.query, positives, places.num_queries))
    queries = candidates.rows.queries.take(pa.array(kept))
    columns = {
        "query_id": queries["query_id"],
        "query": queries["query"],
        **_place_columns(candidates, kept),
        "positives": _lists(candidates, decided, teachers, positives, kept),
        "negatives": _lists(candidates, decided, teachers, negatives, kept),
    }
    return pa.table(columns)


def dropped_rows(candidates: Candidates, decided: Decided) -> pa.Table:
    """All other candidates, in the order of the input, without their texts; no score for a dead letter."""
    places = candidates.places
    slots = np.flatnonzero(~is_one_of(decided.fate, (*POSITIVES, *NEGATIVES)))
    query = places.query[slots]
    rows = candidates.row_of()[slots]
    score = decided.score[slots]
    columns = {
        "query_id": candidates.rows.queries["query_id"].take(pa.array(query)),
        **_place_columns(candidates, query),
        "index": pa.array(places.index[slots].astype(np.int32)),
        "doc_id": candidates.rows.candidates["doc_id"].take(pa.array(rows, mask=rows < 0)),
        "score": pa.array(score, mask=~np.isfinite(score)),
        "reason": _CODES.take(pa.array(decided.fate[slots])),
    }
    return pa.table(columns)


def _place_columns(candidates: Candidates, queries: LongArray) -> dict[str, pa.Array]:
    unit = candidates.places.unit
    spans, rows = unit.places_of(candidates.places.rows[queries])
    files = pa.array([span.file for span in unit.spans], pa.string())
    return {"file": files.take(pa.array(spans)), "row": pa.array(rows)}


def _lists(
    candidates: Candidates, decided: Decided, teachers: Sequence[str], where: BoolArray, kept: LongArray
) -> pa.Array:
    """For each of the queries `kept`, its candidates in `where`, by score and index."""
    places = candidates.places
    is_kept = np.zeros(places.num_queries, np.bool_)
    is_kept[kept] = True
    slots = np.flatnonzero(where & is_kept[places.query])
    slots = slots[np.lexsort((-decided.score[slots], places.query[slots]))]
    lengths = np.bincount(places.query[slots], minlength=places.num_queries)[kept].astype(np.int64)
    offsets = pa.array(offsets_of(lengths))
    return pa.LargeListArray.from_arrays(offsets, _items(candidates, decided, teachers, slots))


def _items(candidates: Candidates, decided: Decided, teachers: Sequence[str], slots: LongArray) -> pa.Array:
    rows = candidates.rows.candidates.take(pa.array(candidates.row_of()[slots])).combine_chunks()
    logits = pa.StructArray.from_arrays([pa.array(of[slots]) for of in candidates.logits], list(teachers))
    columns = {
        "doc_id": _flat(rows["doc_id"]),
        "text": _flat(rows["document"]),
        "index": pa.array(candidates.places.index[slots].astype(np.int32)),
        "qrel": pa.array(candidates.relevance[slots], mask=~candidates.is_judged[slots]),
        "logits": logits,
        "score": pa.array(decided.score[slots]),
        "margin": pa.array(decided.margin[slots]),
        "decision": _CODES.take(pa.array(decided.fate[slots])),
    }
    return pa.StructArray.from_arrays(list(columns.values()), list(columns))


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
