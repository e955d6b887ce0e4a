"""What a unit counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.core.counts import Counts
from reranker_batch.core.memo import MEMO_COLUMN, from_column
from reranker_batch.pipeline.prepared import PreparedUnit
from reranker_batch.pipeline.scored import ScoredUnit


def count_unit(unit: PreparedUnit | ScoredUnit) -> Counts:
    """The counts of a unit as far as it has come: its candidates are those to be scored, or those that are."""
    reasons = unit.dead_letters["reason_code"].value_counts().to_pylist()
    return Counts(
        queries=len(unit.queries),
        candidates=len(unit.candidates) + len(unit.dead_letters),
        scored=len(unit.candidates),
        truncated=_sum(unit.candidates["truncated"]),
        requests=_sum(unit.queries["requests"]),
        total_tokens=_sum(unit.queries["total_tokens"]),
        model_tokens=unit.model_tokens,
        reused=_num_reused(unit.candidates),
        **_chunk_counts(unit.candidates),
        dead_letters={reason["values"]: reason["counts"] for reason in reasons},
    )


def _chunk_counts(candidates: pa.Table) -> dict[str, int]:
    if "chunks" not in candidates.column_names:
        return {}
    is_split = pc.greater(candidates["chunks"], 1)
    return {
        "split": _sum(is_split),
        "split_not_all_read": _sum(pc.and_(is_split, candidates["truncated"])),
        "best_chunk_not_first": _sum(pc.greater(candidates["best_chunk"], 0)),
    }


def _num_reused(candidates: pa.Table) -> int:
    """Of these candidates, those whose score is not of this run."""
    if MEMO_COLUMN not in candidates.column_names:
        return 0
    return int(np.count_nonzero(from_column(candidates[MEMO_COLUMN])["nights"]))


def _sum(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column).as_py() or 0)
