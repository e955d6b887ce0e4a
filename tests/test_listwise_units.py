"""Models that read all documents of a request together: requests are formed, scored and fail as a whole."""

from __future__ import annotations

import string
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from engine import HashBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from listwise import ListEncoder, ListHashScorer, list_logits, requests_of, texts_of
from oracle import ByteEncoder

from reranker_batch.config import LimitsConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.attempts import AttemptTracker
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.isolation import IsolatingScorer
from reranker_batch.core.limits import RequestLimits, limits_of
from reranker_batch.core.pairs import FloatArray, PairScores
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.core.units import FileIdentity
from reranker_batch.errors import ConfigError, RowError
from reranker_batch.frames import rerank_table
from reranker_batch.job.rescoring import rescore
from reranker_batch.job.steps import Prepared
from reranker_batch.pipeline import PreparedUnit, ResultSettings, finish_unit, prepare_unit, score_texts, score_unit
from reranker_batch.reranker import Reranker, _unit_rows, memory_unit
from reranker_batch.runtime.blocks import prepared_block, read_prepared

LIMITS = RequestLimits(max_item_tokens=400, max_pair_tokens=2000, is_listwise=True)
RESULTS = ResultSettings("pairs", 2, False, Activation("cosine"), ())
TEXTS = st.text(alphabet=string.ascii_lowercase[:3], max_size=4)
LISTS = st.lists(st.tuples(TEXTS, st.lists(TEXTS, max_size=9)), min_size=1, max_size=5)
DIFFERENT_LIMITS = st.builds(
    replace,
    st.just(LIMITS),
    max_documents=st.none() | st.integers(1, 9),
    max_request_tokens=st.none() | st.integers(8, 30),
)


def prepare(lists: list[tuple[str, list[str]]], limits: RequestLimits = LIMITS) -> PreparedUnit:
    query_at = np.repeat(np.arange(len(lists), dtype=np.int64), [len(documents) for _, documents in lists])
    documents = [document for _, documents in lists for document in documents]
    rows = _unit_rows([query for query, _ in lists], documents, query_at)
    at = [place for _, documents in lists for place in range(len(documents))]
    index = rows.candidates.column_names.index("index")
    rows = replace(rows, candidates=rows.candidates.set_column(index, "index", pa.array(at, pa.int32())))
    return prepare_unit(memory_unit("lists", len(lists)), rows, ListEncoder(), limits, keep_documents=False)


def expected(lists: list[tuple[str, list[str]]], limits: RequestLimits = LIMITS) -> FloatArray:
    logits = [
        logit
        for query, documents in lists
        for request in requests_of(query, documents, limits)
        for logit in list_logits(query, request)
    ]
    return np.array(logits, dtype=np.float32)


@settings(max_examples=150)
@given(LISTS, DIFFERENT_LIMITS)
def test_each_request_is_read_as_a_whole_and_no_other_document_with_it(
    lists: list[tuple[str, list[str]]], limits: RequestLimits
) -> None:
    prepared = prepare(lists, limits)
    scored = score_unit(prepared, ListHashScorer())
    assert scored.logits.tolist() == expected(lists, limits).tolist()
    requests = [len(requests_of(query, documents, limits)) for query, documents in lists]
    assert prepared.queries["requests"].to_pylist() == requests
    counts = finish_unit(scored, RESULTS).counts
    assert (counts.requests, counts.scored) == (sum(requests), len(scored.logits))


@settings(max_examples=50)
@given(LISTS, DIFFERENT_LIMITS)
def test_equal_requests_are_read_once(lists: list[tuple[str, list[str]]], limits: RequestLimits) -> None:
    inputs = prepare([*lists, *lists], limits).inputs
    assert isinstance(inputs, RequestInputs)
    requests = {(query, *request) for query, documents in lists for request in requests_of(query, documents, limits)}
    assert sorted((query, *documents) for query, documents in texts_of(inputs)) == sorted(requests)


def test_equal_neighbouring_queries_are_requests_of_their_own() -> None:
    lists = [("q", ["a", "b"]), ("q", ["c"])]
    assert score_unit(prepare(lists), ListHashScorer()).logits.tolist() == expected(lists).tolist()


@settings(max_examples=50)
@given(LISTS, DIFFERENT_LIMITS)
def test_a_prepared_unit_travels_as_a_block(lists: list[tuple[str, list[str]]], limits: RequestLimits) -> None:
    sent = prepare(lists, limits)
    span = replace(sent.unit.spans[0], identity=FileIdentity(0, None, "0" * 64))
    sent = replace(sent, unit=replace(sent.unit, spans=(span,)))
    received = read_prepared(prepared_block(Prepared(sent, {}))).unit
    assert score_unit(received, ListHashScorer()).logits.tolist() == expected(lists, limits).tolist()


class PoisonedScorer(ListHashScorer):
    """Dies of a request with the document `poison`."""

    def score(self, inputs: ModelInputs, **options: object) -> PairScores:
        assert isinstance(inputs, RequestInputs)
        if any("poison" in documents for _, documents in texts_of(inputs)):
            raise MemoryError("poison")
        return super().score(inputs)


def test_a_request_that_kills_the_process_is_found_and_fails_with_all_its_documents() -> None:
    lists = [(f"query {at}", [f"document {at} {place}" for place in range(at + 1)]) for at in range(9)]
    lists[5][1][2] = "poison"
    prepared = prepare(lists, replace(LIMITS, max_documents=4))
    tracker = AttemptTracker(100)
    for _ in range(10):
        plan = tracker.begin("00000-0000000000", "replica")
        scorer = PoisonedScorer()
        isolating = IsolatingScorer(scorer, plan, lambda rows: tracker.announce("00000-0000000000", rows))
        try:
            scored = score_unit(prepared, scorer if plan.is_whole else isolating)
            break
        except MemoryError as error:
            tracker.fail("00000-0000000000", str(error))
    finished = finish_unit(scored, replace(RESULTS, top_n=None))
    letters = finished.dead_letters.to_pylist()
    assert [(letter["row"], letter["index"]) for letter in letters] == [(5, 0), (5, 1), (5, 2), (5, 3)]
    assert {letter["reason_code"] for letter in letters} == {"scoring_failed"}
    assert "The 4 documents of its request are read together" in letters[0]["message"]
    all_logits = expected(lists, replace(LIMITS, max_documents=4))
    is_left = np.ones(len(all_logits), dtype=np.bool_)
    is_left[15:19] = False
    assert scored.logits.tolist() == all_logits[is_left].tolist()


class RefusingScorer(ListHashScorer):
    def score(self, inputs: ModelInputs, **options: object) -> PairScores:
        logits = super().score(inputs).logits
        logits[:] = np.nan
        return PairScores(logits, {1: RowError("no", reason_code="out_of_memory")})


def test_texts_scored_alone_are_requests_of_one_document() -> None:
    queries, documents = ["q", "q", "r"], ["a", "b", "a"]
    at = np.arange(3, dtype=np.int64)
    logits = score_texts(queries, documents, at, ListEncoder(), ListHashScorer(), LIMITS)
    assert logits.tolist() == [list_logits(*pair)[0] for pair in [("q", ["a"]), ("q", ["b"]), ("r", ["a"])]]
    refused = score_texts(queries, documents, at, ListEncoder(), RefusingScorer(), LIMITS)
    assert np.isnan(refused).all()
    together = score_texts(queries, documents, np.array([0, 0, 1]), ListEncoder(), ListHashScorer(), LIMITS)
    assert together.tolist() == [*list_logits("q", ["a", "b"]), *list_logits("r", ["a"])]


class CountingScorer(ListHashScorer):
    def __init__(self) -> None:
        self.requests: list[tuple[str, list[str]]] = []

    def score(self, inputs: ModelInputs, **options: object) -> PairScores:
        assert options["one_by_one"]
        assert isinstance(inputs, RequestInputs)
        self.requests += texts_of(inputs)
        return super().score(inputs)


def test_the_precision_sample_scores_whole_requests_again() -> None:
    lists = [(f"query {at}", [f"document {at} {place}" for place in range(6)]) for at in range(4)]
    prepared = prepare(lists, replace(LIMITS, max_documents=4))
    exact = CountingScorer()
    precision = rescore(prepared, score_unit(prepared, ListHashScorer()), exact, num_pairs=8, results=RESULTS)
    assert precision is not None
    assert (precision.pairs, precision.max_logit_difference) == (8, 0.0)
    assert sorted(len(documents) for _, documents in exact.requests) == [2, 4, 4]


def test_limits_of_a_listwise_model() -> None:
    limits = limits_of(LimitsConfig(), ListEncoder(), token_budget=None)
    assert limits.is_listwise
    assert not limits_of(LimitsConfig(), ByteEncoder(), token_budget=None).is_listwise
    with pytest.raises(ConfigError, match="max_chunk does not apply to a listwise model"):
        limits_of(LimitsConfig(long_documents="max_chunk"), ListEncoder(), token_budget=None)


def test_from_python_documents_are_one_list_and_pairs_are_lists_of_one() -> None:
    backend = HashBackend(scorer=ListHashScorer())
    reranker = Reranker(backend, ListEncoder(), ListHashScorer(), LIMITS)
    documents = ["a", "b", "a", "c", "d"]
    results = reranker.rerank("q", documents)
    assert {result.index: np.float32(result.logit) for result in results} == dict(
        enumerate(list_logits("q", documents))
    )
    assert [result.logit for result in results] == sorted((result.logit for result in results), reverse=True)
    scores = reranker.score([("q", "a"), ("q", "b")])
    assert scores.tolist() == [list_logits("q", ["a"])[0], list_logits("q", ["b"])[0]]


def test_rows_of_a_frame_are_lists_in_their_order() -> None:
    reranker = Reranker(HashBackend(scorer=ListHashScorer()), ListEncoder(), ListHashScorer(), LIMITS)
    frame = pa.table(
        {"query_id": list("1211"), "query": list("qrqq"), "doc_id": list("abcd"), "text": list("xyzx")},
    )
    result = rerank_table(frame, model=reranker, layout="pairs")
    logits = {row["doc_id"]: np.float32(row["logit"]) for row in result.to_pylist()}
    expected_logits = dict(zip("acd", list_logits("q", list("xzx")), strict=True)) | {"b": list_logits("r", ["y"])[0]}
    assert logits == expected_logits
