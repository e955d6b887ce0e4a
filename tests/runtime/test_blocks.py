"""A prepared unit moves between processes as one row, without a cluster here."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import ByteEncoder

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.units import FileIdentity, Span, WorkUnit, unit_id_of
from reranker_batch.job.steps import Prepared
from reranker_batch.pipeline import prepare_unit
from reranker_batch.reranker import _unit_rows
from reranker_batch.runtime.blocks import prepared_block, read_prepared


@pytest.mark.parametrize("limits", [RequestLimits(), RequestLimits(max_pair_tokens=20, long_documents="max_chunk")])
@pytest.mark.parametrize("documents", [[], ["a", "bc", "a", ""], ["more than fits by far", "short"]])
def test_a_prepared_unit_comes_back_as_it_was(documents: list[str], limits: RequestLimits) -> None:
    rows = _unit_rows(["query"], documents, np.zeros(len(documents), dtype=np.int64))
    identity = FileIdentity(10, 1, "0" * 64)
    unit = WorkUnit(unit_id_of(0, 0), (Span(0, "in.parquet", 0, 1, identity),), len(documents))
    prepared = Prepared(prepare_unit(unit, rows, ByteEncoder(), limits, keep_documents=True), {"prepare": 1.0})
    block = prepared_block(prepared)
    again = read_prepared(block)
    assert len(block) == 1
    sent, received = as_tokens(prepared.unit.inputs), as_tokens(again.unit.inputs)
    assert received.to_arrow().equals(sent.to_arrow())
    assert len(received) >= len(set(documents))
    sent_pieces, pieces = prepared.unit.pieces, again.unit.pieces
    assert pieces.logit_at.tolist() == sent_pieces.logit_at.tolist()
    assert pieces.offsets.tolist() == sent_pieces.offsets.tolist()
    assert pieces.bounds.tolist() == sent_pieces.bounds.tolist()
    assert again.unit.candidates.equals(prepared.unit.candidates)
