"""Pieces of a training set: rows, and the ids of each row in equal order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.core.ragged import LongArray
from reranker_batch.labels.examples import Examples


@dataclass(frozen=True)
class Shape:
    """What all shards of a training set have in common."""

    num_negatives: int
    """`labels.negatives.num`."""


@dataclass(frozen=True)
class Shard:
    """Rows in `schema` (still to be cast), their ids, and how many queries the format has no place for."""

    rows: pa.Table
    schema: pa.Schema
    ids: pa.Table
    no_negatives: int = 0
    too_few_negatives: int = 0

    @property
    def left_out(self) -> dict[str, int]:
        counts = {"no_negatives": self.no_negatives, "too_few_negatives": self.too_few_negatives}
        return {name: number for name, number in counts.items() if number}


def id_table(examples: Examples, query: LongArray, ids: Mapping[str, pa.Array]) -> pa.Table:
    """`query_id` and other ids of each row."""
    return pa.table({"query_id": examples.query_ids.take(pa.array(query)), **ids})
