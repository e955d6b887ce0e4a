"""Outputs with chosen rankings, in both layouts, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reranker_batch.schema import DOCUMENT_FIELD, RESULT_FIELDS, nested_schema, pairs_schema
from reranker_batch.storage.files.filesystem import Folder

Ranked = tuple[str, list[tuple[str, float]]]
"""A query's id, and the ids and logits of its documents, best first."""


def write_output(
    folder: Path,
    queries: Sequence[Ranked],
    *,
    layout: Literal["pairs", "nested"] = "pairs",
    unit_queries: int = 2,
    row_group_size: int | None = None,
) -> Folder:
    """`scores/` with parts of `unit_queries` queries each. Documents came in the order of their ids."""
    (folder / "scores").mkdir(parents=True)
    for unit, start in enumerate(range(0, len(queries), unit_queries)):
        part = queries[start : start + unit_queries]
        table = _pairs(part) if layout == "pairs" else _nested(part)
        pq.write_table(table, folder / "scores" / f"part-{unit:05d}.parquet", row_group_size=row_group_size)
    return Folder.at(str(folder))


def _pairs(queries: Sequence[Ranked]) -> pa.Table:
    rows = [row for query in queries for row in _results(query)]
    schema = pairs_schema([], return_documents=True)
    return pa.Table.from_pylist(rows, schema=schema)


def _nested(queries: Sequence[Ranked]) -> pa.Table:
    rows = [{"query_id": query[0], "results": _results(query)} for query in queries]
    return pa.Table.from_pylist(rows, schema=nested_schema([], [], return_documents=True))


def _results(query: Ranked) -> list[dict[str, object]]:
    query_id, documents = query
    came = sorted(doc_id for doc_id, _ in documents)
    values = [
        {
            "doc_id": doc_id,
            "index": came.index(doc_id),
            "rank": rank,
            "relevance_score": 1 / (1 + np.exp(-logit)),
            "logit": logit,
            "query_tokens": 1,
            "document_tokens": 1,
            "truncated": False,
            DOCUMENT_FIELD.name: f"text of {doc_id}",
        }
        for rank, (doc_id, logit) in enumerate(documents, start=1)
    ]
    assert {field.name for field in RESULT_FIELDS} < values[0].keys() if values else True
    return [{"query_id": query_id, **value} for value in values]
