"""Documents that are longer than a model reads: cut into chunks, of which the best counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import ByteEncoder, HashScorer, logit_of

from reranker_batch.core.activation import Activation
from reranker_batch.core.chunks import cut_chunks
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairScores
from reranker_batch.errors import RowError
from reranker_batch.pipeline import FinishedUnit, ResultSettings, finish_unit, prepare_unit, score_texts, score_unit
from reranker_batch.reranker import _unit_rows, memory_unit

QUERY = "a query"
WINDOW = 100
LIMITS = RequestLimits(max_pair_tokens=WINDOW + len(QUERY) + 3, long_documents="max_chunk")
LONG = " ".join(f"word{at:03d}." if at % 7 == 0 else f"word{at:03d}" for at in range(60))
CHUNK_COLUMNS = ["chunks", "best_chunk", "best_chunk_start", "best_chunk_end", "tokens_read"]


def finish(documents: list[str], limits: RequestLimits = LIMITS, scorer: HashScorer | None = None) -> FinishedUnit:
    rows = _unit_rows([QUERY], documents, np.zeros(len(documents), dtype=np.int64))
    unit = memory_unit("documents", len(documents))
    prepared = prepare_unit(unit, rows, ByteEncoder(), limits, keep_documents=True)
    scored = score_unit(prepared, scorer or HashScorer())
    settings = ResultSettings("pairs", None, True, Activation(), (), limits.long_documents)
    return finish_unit(scored, settings)


def rows_of(finished: FinishedUnit) -> list[dict[str, object]]:
    return sorted(finished.part.to_pylist(), key=lambda row: int(row["index"]))


def test_the_logit_is_that_of_the_best_chunk_scored_as_a_document_of_its_own() -> None:
    (row,) = rows_of(finish([LONG]))
    start, end = int(str(row["best_chunk_start"])), int(str(row["best_chunk_end"]))
    assert row["logit"] == logit_of(QUERY.encode(), LONG[start:end].encode())
    assert row["chunks"] == 7
    assert row["document_tokens"] == end - start <= WINDOW
    assert row["tokens_read"] == len(LONG)
    assert row["truncated"] is False


def test_no_other_chunk_has_a_greater_logit() -> None:
    finished = finish([LONG, *(f"{at} {LONG}" for at in range(20))])
    rows = rows_of(finished)
    for row in rows:
        text = str(row["document"])
        chunks = cut_chunks(text, np.arange(len(text) + 1, dtype=np.int64), WINDOW)
        logits = [logit_of(QUERY.encode(), text[chunk.start : chunk.stop].encode()) for chunk in chunks]
        assert row["logit"] == max(logits)
        assert row["best_chunk"] == logits.index(max(logits))
    assert finished.counts.split == 21
    assert finished.counts.best_chunk_not_first == sum(row["best_chunk"] != 0 for row in rows) > 0


def test_documents_that_fit_are_scored_as_without_chunks() -> None:
    documents = ["short", "", "x" * WINDOW]
    cut = RequestLimits(max_pair_tokens=LIMITS.max_pair_tokens)
    both = rows_of(finish(documents)), rows_of(finish(documents, cut))
    for row, plain in zip(*both, strict=True):
        text = str(row["document"])
        chunk = [row.pop(name) for name in CHUNK_COLUMNS]
        assert chunk == [1, 0, 0, len(text), len(text.encode())]
        assert row == plain


def test_requests_count_a_split_document_once() -> None:
    split, cut = finish([LONG, "short"]), finish([LONG, "short"], RequestLimits(max_pair_tokens=110))
    assert split.counts.total_tokens == cut.counts.total_tokens
    assert split.counts.requests == cut.counts.requests == 1
    assert split.counts.model_tokens > cut.counts.model_tokens
    assert split.counts.truncated == 0
    assert cut.counts.truncated == 1


def test_the_item_limit_cuts_first() -> None:
    limits = RequestLimits(max_item_tokens=250, max_pair_tokens=LIMITS.max_pair_tokens, long_documents="max_chunk")
    (row,) = rows_of(finish([LONG], limits))
    assert row["tokens_read"] == 250
    assert row["truncated"] is True
    assert int(str(row["best_chunk_end"])) <= 250


def test_text_that_no_chunk_has_is_counted() -> None:
    finished = finish([LONG * 10, LONG])
    assert (finished.counts.split, finished.counts.split_not_all_read, finished.counts.truncated) == (2, 1, 1)
    long, short = rows_of(finished)
    assert long["chunks"] == 8
    assert int(str(long["tokens_read"])) <= 8 * WINDOW
    assert short["truncated"] is False


def test_equal_chunks_are_one_input_and_ties_go_to_the_first() -> None:
    text = "same words here. " * 60
    (row,) = rows_of(finish([text]))
    assert row["chunks"] == 8
    start, end = int(str(row["best_chunk_start"])), int(str(row["best_chunk_end"]))
    first = text.find(text[start:end])
    assert (row["best_chunk"] == 0) == (first == start)


class MarkScorer(HashScorer):
    """Fails on texts that have a mark, or gives no number for them."""

    def __init__(self, mark: str, *, is_error: bool) -> None:
        self.mark, self.is_error = [byte + 3 for byte in mark.encode()], is_error

    def score(self, inputs, **_):  # type: ignore[no-untyped-def]
        logits = super().score(inputs).logits
        ids = [" ".join(map(str, one.tolist())) for one in inputs.ids]
        marked = [at for at, one in enumerate(ids) if " ".join(map(str, self.mark)) in one]
        logits[marked] = np.nan
        failures = {at: RowError("no memory", reason_code="out_of_memory") for at in marked}
        return PairScores(logits, failures if self.is_error else {})


@pytest.mark.parametrize(("is_error", "reason"), [(True, "out_of_memory"), (False, "non_finite_score")])
def test_a_chunk_that_cannot_be_scored_fails_its_document_alone(is_error: bool, reason: str) -> None:
    other = LONG.replace("word030", "<mark>!")
    finished = finish([LONG, other, "short"], scorer=MarkScorer("<mark>", is_error=is_error))
    assert finished.counts.dead_letters == {reason: 1}
    assert finished.dead_letters["index"].to_pylist() == [1]
    assert rows_of(finished)[0] == rows_of(finish([LONG]))[0] | {"rank": rows_of(finished)[0]["rank"]}


def test_texts_alone_are_scored_as_in_a_unit() -> None:
    documents = [LONG, "short", LONG * 10]
    logits = score_texts([QUERY] * 3, documents, np.arange(3), ByteEncoder(), HashScorer(), LIMITS)
    assert [float(logit) for logit in logits] == [row["logit"] for row in rows_of(finish(documents))]


@pytest.mark.parametrize("layout", ["pairs", "nested"])
def test_both_layouts_have_the_columns(layout: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rows = _unit_rows([QUERY], [LONG, "short"], np.zeros(2, dtype=np.int64))
    prepared = prepare_unit(memory_unit("documents", 2), rows, ByteEncoder(), LIMITS, keep_documents=False)
    settings = ResultSettings(layout, None, False, Activation(), (), "max_chunk")  # type: ignore[arg-type]
    finished = finish_unit(score_unit(prepared, HashScorer()), settings)
    table = finished.part.cast(finished.schema)
    pq.write_table(table, tmp_path / "part.parquet")
    again = pq.read_table(tmp_path / "part.parquet")
    flat = again if layout == "pairs" else pa.Table.from_pylist(again["results"][0].as_py())
    assert set(CHUNK_COLUMNS) < set(flat.column_names)
