"""Prepare of one work unit: rows to model inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.memo import MEMO_COLUMN, MEMO_DTYPE, MemoRows, to_column
from reranker_batch.core.pair_inputs import Pieces, tokenize_pairs
from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import BoolArray, PairEncoder
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.core.usage import usage_of_queries
from reranker_batch.schema import CHUNK_NAMES, CUT_FIELD


@dataclass(frozen=True)
class PreparedUnit:
    """A unit ready for a model.

    `queries` has a row per query (place, id, passthrough, requests, total_tokens), `candidates` a row per pair
    to score, `dead_letters` a row per candidate that is not scored. Equal pairs share one model input, so that they
    tie whatever micro-batch they would have been in; `pieces` has the inputs of each candidate.
    """

    unit: WorkUnit
    queries: pa.Table
    candidates: pa.Table
    dead_letters: pa.Table
    inputs: ModelInputs
    pieces: Pieces

    @property
    def model_tokens(self) -> int:
        return int(self.inputs.costs.sum())


Find = Callable[[MemoRows], tuple[BoolArray, MemoRows]]
"""Of pairs by their hashes: which are known, and the rows of all; see `reuse.Lookup.find`."""


def prepare_unit(
    unit: WorkUnit,
    rows: UnitRows,
    encoder: PairEncoder,
    limits: RequestLimits,
    *,
    keep_documents: bool,
    find: Find | None = None,
) -> PreparedUnit:
    """Cut, count, split into requests and tokenize; each distinct text is tokenized once.

    With `find` the candidates get a column of memo rows, and those that it knows are neither tokenized nor scored.
    """
    texts, query_at = UnitTexts.of(rows), rows.candidates["query_at"].to_numpy()
    keys = texts.keys(query_at if limits.is_listwise else None) if find else np.zeros(len(query_at), MEMO_DTYPE)
    is_known, memo = (find or nothing_known)(keys)
    left = np.flatnonzero(~is_known)
    inputs, pieces = tokenize_pairs(texts.subset(left), memo, left, encoder, limits, list_at=query_at[left])
    requests, tokens = usage_of_queries(
        len(rows.queries),
        query_at,
        memo["query_item_tokens"],
        memo["document_item_tokens"],
        limits,
    )
    return PreparedUnit(
        unit=unit,
        queries=rows.queries.append_column("requests", pa.array(requests)).append_column(
            "total_tokens", pa.array(tokens)
        ),
        candidates=_counted(
            rows.candidates if keep_documents else rows.candidates.drop_columns("document"), memo, find, limits
        ),
        dead_letters=rows.dead_letters,
        inputs=inputs,
        pieces=pieces,
    )


def _counted(candidates: pa.Table, memo: MemoRows, find: Find | None, limits: RequestLimits) -> pa.Table:
    """With columns of what is left of the texts, and with memo rows where they are asked for."""
    chunk_names = CHUNK_NAMES if limits.long_documents == "max_chunk" else ()
    columns = {
        "query_tokens": memo["query_tokens"].copy(),
        "document_tokens": memo["document_tokens"].copy(),
        "truncated": memo["cut"] != 0,
        CUT_FIELD.name: memo["cut"].copy(),
        **{name: memo[name].astype(np.int32) for name in chunk_names},
        **({MEMO_COLUMN: to_column(memo)} if find else {}),
    }
    for name, values in columns.items():
        candidates = candidates.append_column(name, pa.array(values))
    return candidates


def nothing_known(keys: MemoRows) -> tuple[BoolArray, MemoRows]:
    """A `Find` that finds nothing."""
    return np.zeros(len(keys), dtype=np.bool_), keys
