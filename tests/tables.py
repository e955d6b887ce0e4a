"""Small input tables for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Group = tuple[str, str, list[tuple[str, str]]]
"""A query's id, its text, and the ids and texts of its candidates."""

_WORDS = ["river", "stone", "paper", "lamp", "engine", "the", "of", "x-ray", "42", "naïve", "café"]
_WORDS += ["цена", "дорога", "市场", "天気", "كتاب", "🙂"]


def random_groups(num_queries: int, *, max_candidates: int = 12, seed: int = 0) -> list[Group]:
    """Queries with 0 to `max_candidates` candidates; some texts are equal, so that ties happen."""
    chance = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(chance.choices(_WORDS, k=chance.randint(0, most)))

    return [
        (f"q{number}", text(6), [(f"d{number}-{at}", text(20)) for at in range(chance.randint(0, max_candidates))])
        for number in range(num_queries)
    ]


def nested_table(groups: Sequence[Group], **more: Sequence[Any]) -> pa.Table:
    candidates = [[{"doc_id": doc_id, "text": text} for doc_id, text in group[2]] for group in groups]
    struct = pa.struct([("doc_id", pa.string()), ("text", pa.string())])
    return pa.table(
        {
            "query_id": pa.array([group[0] for group in groups], pa.string()),
            "query": pa.array([group[1] for group in groups], pa.string()),
            "candidates": pa.array(candidates, pa.list_(struct)),
            **{name: pa.array(values) for name, values in more.items()},
        }
    )


def pairs_table(groups: Sequence[Group]) -> pa.Table:
    rows = [(group[0], group[1], *candidate) for group in groups for candidate in group[2]]
    columns: list[Sequence[Any]] = [*zip(*rows, strict=True)] if rows else [(), (), (), ()]
    names = ["query_id", "query", "doc_id", "text"]
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def write(table: pa.Table, path: Path, *, row_group_size: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path
