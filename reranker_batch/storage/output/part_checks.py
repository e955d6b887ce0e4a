"""The rules that the rows of a part must keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.activation import Activation
from reranker_batch.core.counts import Counts
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import WorkUnit
from reranker_batch.schema import CHUNK_FIELDS, PLACE_FIELDS, QUERY_ID_FIELD, RESULT_FIELDS, USAGE_FIELDS

_NUMBERS = ["index", "rank", "relevance_score", "logit"]
_ROUNDING = 2
"""Units in the last place by which two machines may differ in a sigmoid."""


@dataclass(frozen=True)
class RowRules:
    """What the settings of a run demand of every row."""

    layout: str
    top_n: int | None
    activation: Activation
    has_chunks: bool = False

    def problems(self, table: pa.Table, counts: Counts, unit: WorkUnit) -> Iterator[str]:
        """What is wrong with the rows of the part of `unit` whose record says `counts`."""
        if wrong := list(self._schema_problems(table)):
            yield from wrong
            return
        results = self._results(table)
        if len(results.rank) != counts.kept:
            yield f"{len(results.rank)} candidates, its record says {counts.kept}"
        if self.layout == "nested":
            if len(table) != counts.queries:
                yield f"{len(table)} queries, its record says {counts.queries}"
            if not _are_in_order(table, unit):
                yield "file and row of its queries are not places of its unit, each once and in their order"
        yield from results.order_problems(self.top_n)
        yield from results.score_problems(self.activation)

    def _schema_problems(self, table: pa.Table) -> Iterator[str]:
        fields = {field.name: field.type for field in table.schema}
        results = [*RESULT_FIELDS, *(CHUNK_FIELDS if self.has_chunks else [])]
        expected = [QUERY_ID_FIELD, *results]
        if self.layout == "nested":
            expected = [QUERY_ID_FIELD, *PLACE_FIELDS, *USAGE_FIELDS]
            if not pa.types.is_list(lists := fields.get("results", pa.null())):
                yield "it has no column of results"
                return
            fields |= {f"results.{field.name}": field.type for field in lists.value_type}
            expected += [field.with_name(f"results.{field.name}") for field in results]
        for field in expected:
            if not (seen := fields.get(field.name, pa.null())).equals(field.type):
                yield f"its column {field.name} is {seen}, not {field.type}"
        if len(set(table.column_names)) < len(table.column_names):
            yield "a column stands twice"

    def _results(self, table: pa.Table) -> _Results:
        if self.layout == "pairs":
            query_ids = table["query_id"].combine_chunks().dictionary_encode()
            codes = pc.fill_null(query_ids.indices, -1).to_numpy() if len(table) else np.empty(0)
            return _Results.of({name: table[name] for name in _NUMBERS}, codes.astype(np.int64))
        lists = table["results"].combine_chunks()
        flat = pc.list_flatten(lists)
        columns = {name: pc.struct_field(flat, name) for name in _NUMBERS}
        return _Results.of(columns, pc.list_parent_indices(lists).to_numpy())


def _are_in_order(table: pa.Table, unit: WorkUnit) -> bool:
    files = pa.array([span.file for span in unit.spans], pa.string())
    at = pc.fill_null(pc.index_in(table["file"], files), -1).to_numpy().astype(np.int64)
    rows = pc.fill_null(table["row"], -1).to_numpy()
    starts, stops = (np.array([getattr(span, name) for span in unit.spans]) for name in ("row_start", "row_stop"))
    if (at < 0).any() or (rows < starts[at]).any() or (rows >= stops[at]).any():
        return False
    return bool((np.diff(unit.offsets[at] + rows - starts[at]) > 0).all())


@dataclass(frozen=True)
class _Results:
    """Result columns, all of shape [kept candidates]. Nulls show as NaN or -1, which no rule lets pass."""

    query: LongArray
    index: LongArray
    rank: LongArray
    score: Any
    logit: Any

    @classmethod
    def of(cls, columns: Mapping[str, Any], query: LongArray) -> _Results:
        index, rank = (pc.fill_null(columns[name], -1).to_numpy() for name in ("index", "rank"))
        score, logit = (pc.fill_null(columns[name], np.nan).to_numpy() for name in ("relevance_score", "logit"))
        return cls(query, index, rank, score, logit)

    def order_problems(self, top_n: int | None) -> Iterator[str]:
        if top_n is not None and len(self.rank) and self.rank.max() > top_n:
            yield f"rank {self.rank.max()} is beyond top_n={top_n}"
        rank, logit, index = self.rank, self.logit, self.index
        follows = rank[1:] != 1
        if (len(rank) and rank[0] != 1) or not (rank[1:][follows] == rank[:-1][follows] + 1).all():
            yield "ranks of a query are not 1..n"
        if not (self.query[1:][follows] == self.query[:-1][follows]).all():
            yield "rows of a query do not stand together"
        is_ordered = (logit[1:] < logit[:-1]) | ((logit[1:] == logit[:-1]) & (index[1:] > index[:-1]))
        if not is_ordered[follows].all():
            yield "candidates are not ordered by score, ties by index"
        places = np.stack([np.cumsum(rank == 1), index])
        if (index < 0).any() or np.unique(places, axis=1).shape[1] < len(index):
            yield "a candidate has no place in its query, or stands twice"

    def score_problems(self, activation: Activation) -> Iterator[str]:
        if not np.isfinite(self.logit).all() or not ((self.score >= 0) & (self.score <= 1)).all():
            yield "a score is not finite or not within 0..1"
            return
        expected = activation.scores(self.logit)
        if not (np.abs(expected - self.score) <= _ROUNDING * np.spacing(expected)).all():
            yield "relevance_score is not what the activation makes of the logit"
