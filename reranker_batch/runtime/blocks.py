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

from reranker_batch.core.inputs import ModelInputs, TokenInputs
from reranker_batch.core.pair_inputs import Pieces
from reranker_batch.core.precision import Precision
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.core.units import WorkUnit
from reranker_batch.job.steps import Prepared, Scored
from reranker_batch.pipeline import PreparedUnit, ScoredUnit

_FACTS = ("model_tokens", "oom_splits", "execution")
"""Values of a scored unit that are not tables."""
_BOUNDS = ("start", "stop", "tokens")


def prepared_block(prepared: Prepared) -> pa.Table:
    unit = prepared.unit
    tables = {
        "queries": unit.queries,
        "candidates": unit.candidates,
        "dead_letters": unit.dead_letters,
        "inputs": unit.inputs.to_arrow(),
        "logit_at": pa.table({"logit_at": unit.pieces.logit_at}),
        "piece_offsets": pa.table({"offsets": unit.pieces.offsets}),
        "piece_bounds": pa.table({name: unit.pieces.bounds[:, at] for at, name in enumerate(_BOUNDS)}),
    }
    return _block(unit.unit, tables, {"timings": prepared.timings, "ready_at": prepared.ready_at})


def read_prepared(block: pa.Table) -> Prepared:
    unit = PreparedUnit(
        unit=read_unit_block(block),
        queries=_read_table(block, "queries"),
        candidates=_read_table(block, "candidates"),
        dead_letters=_read_table(block, "dead_letters"),
        inputs=_read_inputs(_read_table(block, "inputs")),
        pieces=_read_pieces(block),
    )
    return Prepared(unit, **_read_facts(block))


def _read_inputs(table: pa.Table) -> ModelInputs:
    return (RequestInputs if "marks" in table.column_names else TokenInputs).from_arrow(table)


def _read_pieces(block: pa.Table) -> Pieces:
    bounds = _read_table(block, "piece_bounds")
    return Pieces(
        _read_table(block, "logit_at")["logit_at"].to_numpy(),
        _read_table(block, "piece_offsets")["offsets"].to_numpy(),
        np.stack([bounds[name].to_numpy() for name in _BOUNDS], axis=1),
    )


def scored_block(scored: Scored) -> pa.Table:
    unit = scored.unit
    tables = {
        "queries": unit.queries,
        "candidates": unit.candidates,
        "dead_letters": unit.dead_letters,
        "scores": pa.table({"logit": unit.logits}),
    }
    precision = scored.precision and asdict(scored.precision)
    facts = {name: getattr(unit, name) for name in _FACTS}
    return _block(unit.unit, tables, {**facts, "timings": scored.timings, "precision": precision})


def read_scored(block: pa.Table) -> Scored:
    facts = _read_facts(block)
    unit = ScoredUnit(
        unit=read_unit_block(block),
        queries=_read_table(block, "queries"),
        candidates=_read_table(block, "candidates"),
        dead_letters=_read_table(block, "dead_letters"),
        logits=_read_table(block, "scores")["logit"].to_numpy(),
        **{name: facts[name] for name in _FACTS},
    )
    precision = facts["precision"]
    return Scored(unit, facts["timings"], precision and Precision(**precision))


def unit_block(unit: WorkUnit) -> dict[str, Any]:
    """The row of a unit that has not been read yet."""
    return {"unit": json.dumps(unit.to_dict())}


def read_unit_block(block: pa.Table) -> WorkUnit:
    return WorkUnit.from_dict(json.loads(block["unit"][0].as_py()))


def _block(unit: WorkUnit, tables: dict[str, pa.Table], facts: dict[str, Any]) -> pa.Table:
    texts = {"unit": json.dumps(unit.to_dict()), "facts": json.dumps(facts)}
    return pa.table({name: [text] for name, text in texts.items()} | {name: _stream(tables[name]) for name in tables})


def _read_facts(block: pa.Table) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(block["facts"][0].as_py())
    return facts


def _stream(table: pa.Table) -> pa.Array:
    """One `large_binary` value that holds the table as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    content = sink.getvalue()
    bounds = pa.py_buffer(np.array([0, content.size], dtype=np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, bounds, content])


def _read_table(block: pa.Table, name: str) -> pa.Table:
    return pa.ipc.open_stream(block[name][0].as_buffer()).read_all()
