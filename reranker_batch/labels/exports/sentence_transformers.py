"""Training sets for sentence-transformers: Parquet whose columns stand in the order that its losses take them.

A loss takes every column but the one with the scores for a text, so ids stand in files of their own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.labels.examples import Examples, Items
from reranker_batch.labels.exports.shards import Shape, Shard, id_table

_TEXT, _SCORE = pa.string(), pa.float32()
_SCORES = pa.list_(_SCORE)


def pair(examples: Examples, shape: Shape) -> Shard:
    """anchor, document, score: every positive and negative with its query."""
    items = examples.positives + examples.negatives
    return _pairs(examples, items, "score", pa.array(items.scores))


def labeled_pair(examples: Examples, shape: Shape) -> Shard:
    """anchor, document, label: the same with 1 for a positive and 0 for a negative, whatever the scores."""
    positives, negatives = examples.positives.lengths, examples.negatives.lengths
    lengths = np.stack([positives, negatives], axis=1).reshape(-1)
    labels = np.repeat(np.tile(np.array([1, 0]), len(examples)), lengths)
    return _pairs(examples, examples.positives + examples.negatives, "label", pa.array(labels))


def _pairs(examples: Examples, items: Items, name: str, values: pa.Array) -> Shard:
    query = items.query
    rows = pa.table(
        {"anchor": examples.queries.take(pa.array(query)), "document": items.texts, name: values},
        schema=pa.schema([("anchor", pa.large_string()), ("document", pa.large_string()), (name, values.type)]),
    )
    schema = pa.schema([("anchor", _TEXT), ("document", _TEXT), (name, values.type)])
    return Shard(rows, schema, id_table(examples, query, {"doc_id": items.doc_ids}))


def triplet(examples: Examples, shape: Shape) -> Shard:
    """anchor, positive, negative, scores: every positive with every negative."""
    rows = examples.with_negatives()
    at_positive, at_negative = examples.pairs_of(rows)
    positive, negative = examples.positives.take(at_positive), examples.negatives.take(at_negative)
    query = examples.positives.query[at_positive]
    scores = np.stack([positive.scores, negative.scores], axis=1)
    table = pa.table(
        {
            "anchor": examples.queries.take(pa.array(query)),
            "positive": positive.texts,
            "negative": negative.texts,
            "scores": _fixed_lists(scores),
        }
    )
    schema = pa.schema([("anchor", _TEXT), ("positive", _TEXT), ("negative", _TEXT), ("scores", _SCORES)])
    ids = id_table(examples, query, {"positive_id": positive.doc_ids, "negative_id": negative.doc_ids})
    return Shard(table, schema, ids, no_negatives=len(examples) - len(rows))


def n_tuple(examples: Examples, shape: Shape) -> Shard:
    """anchor, positive, negative_1 … negative_n, scores: a row for each positive; n is `labels.negatives.num`."""
    number = shape.num_negatives
    rows = examples.with_negatives(number)
    positive, query = _positives_of(examples, rows)
    first = examples.negatives.starts[query]
    negatives = [examples.negatives.take(first + at) for at in range(number)]
    names = [f"negative_{at + 1}" for at in range(number)]
    texts = dict(zip(names, [of.texts for of in negatives], strict=True))
    scores = np.stack([positive.scores, *(of.scores for of in negatives)], axis=1)
    table = {"anchor": examples.queries.take(pa.array(query)), "positive": positive.texts, **texts}
    schema = pa.schema([*((name, _TEXT) for name in table), ("scores", _SCORES)])
    ids = {f"{name}_id": of.doc_ids for name, of in zip(names, negatives, strict=True)}
    return Shard(
        pa.table({**table, "scores": _fixed_lists(scores)}),
        schema,
        id_table(examples, query, {"positive_id": positive.doc_ids, **ids}),
        too_few_negatives=len(examples) - len(rows),
    )


def lists(examples: Examples, shape: Shape) -> Shard:
    """query, docs, scores: a row for each query, positives first."""
    items = examples.positives + examples.negatives
    columns = {
        "query": examples.queries,
        "docs": items.lists(items.texts),
        "scores": items.lists(pa.array(items.scores)),
    }
    schema = pa.schema([("query", _TEXT), ("docs", pa.list_(_TEXT)), ("scores", _SCORES)])
    every = np.arange(len(examples), dtype=np.int64)
    return Shard(pa.table(columns), schema, id_table(examples, every, {"doc_ids": items.lists(items.doc_ids)}))


def _positives_of(examples: Examples, rows: LongArray) -> tuple[Items, LongArray]:
    """The positives of some rows, and the row of each."""
    is_kept = np.zeros(len(examples), np.bool_)
    is_kept[rows] = True
    at = np.flatnonzero(is_kept[examples.positives.query])
    return examples.positives.take(at), examples.positives.query[at]


def _fixed_lists(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> pa.Array:
    """A list for each row."""
    offsets = np.arange(0, values.size + 1, max(values.shape[1], 1), dtype=np.int64)
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values).reshape(-1)))
