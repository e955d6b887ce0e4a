"""Training sets as JSON lines: FlagEmbedding, ms-swift, Tevatron."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reranker_batch.labels.examples import Examples, Items
from reranker_batch.labels.exports.shards import Shape, Shard, id_table

_TEXT = pa.large_string()


def flag_embedding(examples: Examples, shape: Shape) -> Shard:
    """query, pos, neg, pos_scores, neg_scores: both lists of scores in every line, no list empty, nothing null."""
    kept, left_out = _with_negatives(examples)
    positives, negatives = kept.positives, kept.negatives
    return _shard(
        kept,
        {
            "query": kept.queries,
            "pos": positives.lists(positives.texts),
            "neg": negatives.lists(negatives.texts),
            "pos_scores": positives.lists(pa.array(positives.scores.astype(np.float64))),
            "neg_scores": negatives.lists(pa.array(negatives.scores.astype(np.float64))),
        },
        left_out,
    )


def ms_swift(examples: Examples, shape: Shape) -> Shard:
    """messages, positive_messages, negative_messages, as ms-swift reads reranker data."""
    kept, left_out = _with_negatives(examples)
    one = Items(kept.queries, kept.queries, np.zeros(len(kept), np.float32), np.ones(len(kept), np.int64))
    return _shard(
        kept,
        {
            "messages": one.lists(_message("user", kept.queries)),
            "positive_messages": _conversations(kept.positives),
            "negative_messages": _conversations(kept.negatives),
        },
        left_out,
    )


def tevatron(examples: Examples, shape: Shape) -> Shard:
    """query_id, query, positive_passages, negative_passages; a passage has docid, title (empty) and text."""
    kept, left_out = _with_negatives(examples)
    columns = {
        "query_id": kept.query_ids,
        "query": kept.queries,
        "positive_passages": _passages(kept.positives),
        "negative_passages": _passages(kept.negatives),
    }
    return _shard(kept, columns, left_out)


def _with_negatives(examples: Examples) -> tuple[Examples, int]:
    rows = examples.with_negatives()
    return examples.only(rows), len(examples) - len(rows)


def _shard(kept: Examples, columns: dict[str, pa.Array], left_out: int) -> Shard:
    every = np.arange(len(kept), dtype=np.int64)
    ids = {
        "positive_ids": kept.positives.lists(kept.positives.doc_ids),
        "negative_ids": kept.negatives.lists(kept.negatives.doc_ids),
    }
    table = pa.table(columns)
    return Shard(table, table.schema, id_table(kept, every, ids), no_negatives=left_out)


def _message(role: str, texts: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([pa.repeat(pa.scalar(role, _TEXT), len(texts)), texts], ["role", "content"])


def _conversations(items: Items) -> pa.Array:
    """For each query a list of conversations of one message each."""
    offsets = pa.array(np.arange(len(items.texts) + 1, dtype=np.int64))
    return items.lists(pa.LargeListArray.from_arrays(offsets, _message("assistant", items.texts)))


def _passages(items: Items) -> pa.Array:
    titles = pa.repeat(pa.scalar("", _TEXT), len(items.texts))
    return items.lists(pa.StructArray.from_arrays([items.doc_ids, titles, items.texts], ["docid", "title", "text"]))
