"""A unit on its way between steps: one Arrow table with one row, whatever the unit holds.

Ray Data moves and replays blocks; one row a unit means that a unit is never split, never dropped for being
empty, and that its tables are read back as views of shared memory.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from reranker_batch.core.precision import Precision
from reranker_batch.core.ragged import Ragged
from reranker_batch.core.units import WorkUnit
from reranker_batch.pipeline import PreparedUnit, ScoredUnit

_FACTS = ("model_tokens", "oom_splits", "way")
"""What is known of a scored unit beside its tables."""


def prepared_block(prepared: PreparedUnit, timings: dict[str, float]) -> pa.Table:
    inputs = pa.table({"input_ids": prepared.input_ids.to_arrow(), "first_segment": prepared.first_segment})
    tables = {
        "queries": prepared.queries,
        "candidates": prepared.candidates,
        "rejects": prepared.rejects,
        "inputs": inputs,
        "input_at": pa.table({"input_at": prepared.input_at}),
    }
    return _block(prepared.unit, tables, timings)


def read_prepared(block: pa.Table) -> tuple[PreparedUnit, dict[str, float]]:
    inputs = _read_table(block, "inputs")
    prepared = PreparedUnit(
        unit=_read_unit(block),
        queries=_read_table(block, "queries"),
        candidates=_read_table(block, "candidates"),
        rejects=_read_table(block, "rejects"),
        input_ids=_read_ragged(inputs["input_ids"]),
        first_segment=inputs["first_segment"].to_numpy(),
        input_at=_read_table(block, "input_at")["input_at"].to_numpy(),
    )
    return prepared, read_timings(block)


def scored_block(scored: ScoredUnit, timings: dict[str, float], precision: Precision | None) -> pa.Table:
    tables = {
        "queries": scored.queries,
        "candidates": scored.candidates,
        "rejects": scored.rejects,
        "scores": pa.table({"logit": scored.logits}),
    }
    facts = {name: getattr(scored, name) for name in _FACTS}
    return _block(scored.unit, tables, timings, facts | {"precision": precision and asdict(precision)})


def read_scored(block: pa.Table) -> tuple[ScoredUnit, dict[str, float], Precision | None]:
    facts = json.loads(block["facts"][0].as_py())
    precision = facts.pop("precision")
    scored = ScoredUnit(
        unit=_read_unit(block),
        queries=_read_table(block, "queries"),
        candidates=_read_table(block, "candidates"),
        rejects=_read_table(block, "rejects"),
        logits=_read_table(block, "scores")["logit"].to_numpy(),
        **facts,
    )
    return scored, read_timings(block), precision and Precision(**precision)


def unit_block(unit: WorkUnit) -> dict[str, Any]:
    """The row of a unit that has not been read yet."""
    return {"unit": json.dumps(unit.to_dict())}


def read_unit_block(block: pa.Table) -> WorkUnit:
    return _read_unit(block)


def read_timings(block: pa.Table) -> dict[str, float]:
    values: dict[str, float] = json.loads(block["timings"][0].as_py())
    return values


def _block(
    unit: WorkUnit, tables: dict[str, pa.Table], timings: dict[str, float], facts: dict[str, Any] | None = None
) -> pa.Table:
    texts = {"unit": unit.to_dict(), "timings": timings, "facts": facts or {}}
    columns = {name: [json.dumps(values)] for name, values in texts.items()}
    return pa.table({**columns, **{name: _stream(table) for name, table in tables.items()}})


def _stream(table: pa.Table) -> pa.Array:
    """One `large_binary` value that holds the table as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    content = sink.getvalue()
    bounds = pa.py_buffer(np.array([0, content.size], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, bounds, content])


def _read_unit(block: pa.Table) -> WorkUnit:
    return WorkUnit.from_dict(json.loads(block["unit"][0].as_py()))


def _read_table(block: pa.Table, name: str) -> pa.Table:
    return pa.ipc.open_stream(block[name][0].as_buffer()).read_all()


def _read_ragged(column: pa.ChunkedArray) -> Ragged:
    if column.num_chunks == 0:
        return Ragged(np.empty(0, dtype=np.int32), np.zeros(1, dtype=np.int64))
    return Ragged.from_arrow(column.chunk(0))
