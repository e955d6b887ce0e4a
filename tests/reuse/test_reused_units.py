"""A unit that takes over what an earlier run scored comes out as if all of it had been scored."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from nightly import FINGERPRINT, Night, publish, unit_id
from oracle import ByteEncoder, HashScorer
from tables import Group

from reranker_batch.core.activation import Activation
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.limits import LongDocuments, RequestLimits
from reranker_batch.core.pairs import PairScores
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.core.units import FileIdentity, Span, WorkUnit
from reranker_batch.pipeline import (
    Find,
    FinishedUnit,
    ResultSettings,
    finish_unit,
    nothing_known,
    prepare_unit,
    score_unit,
)
from reranker_batch.reuse.lookup import Lookup
from reranker_batch.reuse.source import open_source
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.scratch import Scratch

LIMITS = RequestLimits(max_documents=3, max_item_tokens=12, max_request_tokens=40, max_pair_tokens=16)
_TEXT = st.sampled_from(["", "a", "ab", "naïve", "市场 🙂", "the river", "a long text here", "x" * 30])
GROUPS = st.lists(st.tuples(st.just("id"), _TEXT, st.lists(st.tuples(st.just("doc"), _TEXT), max_size=6)), max_size=6)


class CountingScorer(HashScorer):
    def __init__(self) -> None:
        self.scored = 0

    def score(self, inputs: ModelInputs, **options: object) -> PairScores:
        self.scored += len(inputs)
        return super().score(inputs, **options)  # type: ignore[arg-type]


def rows_of(groups: list[Group]) -> UnitRows:
    queries = pa.table(
        {
            "row": pa.array(range(len(groups)), pa.int64()),
            "query_id": pa.array([group[0] for group in groups], pa.large_string()),
            "query": pa.array([group[1] for group in groups], pa.large_string()),
        }
    )
    places = [(at, index, *candidate) for at, group in enumerate(groups) for index, candidate in enumerate(group[2])]
    candidates = pa.table(
        {
            "query_at": pa.array([at for at, *_ in places], pa.int64()),
            "row": pa.array([at for at, *_ in places], pa.int64()),
            "index": pa.array([index for _, index, *_ in places], pa.int32()),
            "doc_id": pa.array([doc_id for *_, doc_id, _ in places], pa.large_string()),
            "document": pa.array([text for *_, text in places], pa.large_string()),
        }
    )
    return UnitRows(queries, candidates, DEAD_LETTER_PLACES.empty_table())


def run(
    groups: list[Group],
    layout: Literal["pairs", "nested"],
    top_n: int | None,
    find: Find | None,
    long_documents: LongDocuments = "truncate",
) -> tuple[FinishedUnit, int]:
    span = Span(0, "a.parquet", 0, len(groups), FileIdentity(1, 1, "0" * 64))
    unit, scorer = WorkUnit(unit_id(0), (span,), 0), CountingScorer()
    limits = replace(LIMITS, long_documents=long_documents)
    prepared = prepare_unit(unit, rows_of(groups), ByteEncoder(), limits, keep_documents=True, find=find)
    result = ResultSettings(layout, top_n, True, Activation(), (), long_documents)
    return finish_unit(score_unit(prepared, scorer), result), scorer.scored


def lookup_of(night: Night, output: Path) -> Find:
    scratch = Scratch.fresh(Folder.at(str(output)), "reuse")
    source = open_source(night.output, night.files, scratch, scoring_fingerprint=FINGERPRINT)
    return partial(Lookup(source).find, unit_id(0))


@given(
    before=GROUPS,
    changed=GROUPS,
    layout=st.sampled_from(["pairs", "nested"]),
    top_n=st.sampled_from([None, 1, 3]),
    long_documents=st.sampled_from(["truncate", "max_chunk"]),
    data=st.data(),
)
@settings(max_examples=25)
def test_reused_and_scored_pairs_give_what_scoring_all_of_them_gives(
    before: list[Group],
    changed: list[Group],
    layout: Literal["pairs", "nested"],
    top_n: int | None,
    long_documents: LongDocuments,
    data: st.DataObject,
) -> None:
    groups = data.draw(st.permutations(before + changed))
    full, num_full = run(groups, layout, top_n, None, long_documents)
    with tempfile.TemporaryDirectory() as folder:
        first, _ = run(before, "pairs", 1, nothing_known, long_documents)
        assert first.memo is not None
        reused, num_scored = run(
            groups,
            layout,
            top_n,
            lookup_of(publish(Path(folder) / "a", [first.memo]), Path(folder) / "b"),
            long_documents,
        )
        assert reused.part.equals(full.part)
        assert reused.schema == full.schema
        assert num_scored <= num_full
        old = {(query, text) for _, query, documents in before for _, text in documents}
        new = {(query, text) for _, query, documents in groups for _, text in documents} - old
        assert (num_scored == 0) == (not new)
        assert reused.memo is not None
        again, num_again = run(
            groups,
            layout,
            top_n,
            lookup_of(publish(Path(folder) / "c", [reused.memo]), Path(folder) / "d"),
            long_documents,
        )
        assert (num_again, again.part) == (0, full.part)
        assert again.memo is not None
        assert set(again.memo["nights"].tolist()) <= {1, 2}


def test_without_find_nothing_is_kept_for_later() -> None:
    groups: list[Group] = [("id", "query", [("doc", "text")])]
    assert run(groups, "pairs", None, None)[0].memo is None
    finished, scored = run(groups, "pairs", None, nothing_known)
    assert scored == 1
    assert finished.memo is not None
    assert np.isfinite(finished.memo["logit"]).all()
