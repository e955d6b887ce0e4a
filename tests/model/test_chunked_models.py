"""Chunks of long documents, with the tokenizers and models of each kind: each is scored as a document of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_causal import save_causal
from tiny_models import random_text, save_model

from reranker_batch import Reranker
from reranker_batch.core.pairs import PairEncoder
from reranker_batch.uris import BUILTIN_FOLDER

QUERY = "what is a panda?"
ENGLISH = (
    "Pandas eat bamboo. Cities of France are old! Is [SEP] a token, or </s>? <|im_end|> No... The sea is wide, and "
    "the mountains are high; nobody knows why. "
)


def texts() -> list[str]:
    rng = random.Random(5)
    return [ENGLISH * 3, *(random_text(rng, words) for words in (40, 90, 200)), "short", "", "汉字" * 200, "x" * 900]


ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert-mean", "deberta-v2")
PROMPTED = {"qwen3-reranker": 500, "qwen3-vl-reranker": 500, "zerank": 300}
"""Recipes with a prompt, and tokens of a pair for which some of the texts are too long."""


@pytest.fixture(params=[*ENCODERS, *PROMPTED])
def folder(request: pytest.FixtureRequest, tmp_path: Path, model_folder: Callable[[str], Path]) -> Path:
    if request.param in PROMPTED:
        return save_causal(request.param, tmp_path / request.param)
    return model_folder(request.param)


def recipe_of(folder: Path) -> str:
    return folder.name if folder.name in PROMPTED else "auto"


def test_the_best_chunk_has_the_greatest_logit_of_all_and_that_of_its_text(folder: Path) -> None:
    recipe = recipe_of(folder)
    limits = {"max_pair_tokens": PROMPTED[recipe]} if recipe in PROMPTED else {}
    chunked = Reranker.open(str(folder), recipe=recipe, limits={**limits, "long_documents": "max_chunk"})
    plain = Reranker.open(str(folder), recipe=recipe, limits=limits)
    split = 0 if recipe == "auto" else 1
    for result in chunked.rerank(QUERY, texts()):
        assert result.chunk is not None
        start, end = result.chunk
        own = plain.rerank(QUERY, [result.document[start:end]])[0]
        assert not own.truncated
        assert result.logit == pytest.approx(own.logit, abs=1e-5)
        whole = plain.rerank(QUERY, [result.document])[0]
        if not whole.truncated:
            assert result.logit == pytest.approx(whole.logit, abs=1e-5)
            assert result.chunk == (0, len(result.document))
        split += whole.truncated
    assert split >= 4


def test_tokens_begin_where_the_text_of_the_rest_reads_the_same_tokens(folder: Path) -> None:
    """So that offsets are those of the text that was given, whatever a tokenizer adds or normalizes."""
    encoder: PairEncoder = Reranker.open(str(folder), recipe=recipe_of(folder)).encoder
    given = texts()
    whole = encoder.encode_texts(given, max_tokens=None)
    starts = encoder.token_starts(given, max_tokens=None)
    assert (starts.lengths == whole.tokens.lengths + 1).all()
    for text, of_text in zip(given, starts, strict=True):
        assert (np.diff(of_text) >= 0).all()
        assert of_text[-1] == len(text)
    few = encoder.token_starts(given, max_tokens=7)
    assert all(part.tolist() == of_text[:8].tolist() for part, of_text in zip(few, starts, strict=True))


def reciprocal_rank(reranker: Reranker, query: str, documents: list[str], answers: set[int]) -> float:
    results = reranker.rerank(query, documents)
    return next(1 / result.rank for result in results if result.index in answers)


def test_answers_after_the_first_512_tokens_are_found_in_their_chunk() -> None:
    """The demo's candidates, each behind the same text about something else that fills the model's input."""
    rows = pq.read_table(BUILTIN_FOLDER / "demo.parquet").slice(0, 60).to_pylist()
    rows = [row for row in rows if any(candidate["relevance"] for candidate in row["candidates"])][:10]
    filler = " ".join("The committee met on Tuesday and talked about the budget of the year." for _ in range(45))
    chunked = Reranker.open("builtin:mini", limits={"long_documents": "max_chunk"})
    truncated = Reranker.open("builtin:mini")
    ranks = []
    for row in rows:
        candidates = sorted(row["candidates"], key=lambda candidate: -candidate["relevance"])[:10]
        answers = {at for at, candidate in enumerate(candidates) if candidate["relevance"]}
        order = random.Random(3).sample(range(len(candidates)), len(candidates))
        texts = [candidates[at]["text"] for at in order]
        answers = {place for place, at in enumerate(order) if at in answers}
        long = [f"{filler} {text}" for text in texts]
        ranks.append(
            [
                reciprocal_rank(truncated, row["query"], texts, answers),
                reciprocal_rank(truncated, row["query"], long, answers),
                reciprocal_rank(chunked, row["query"], long, answers),
            ]
        )
    alone, first_chunk, best_chunk = np.mean(ranks, axis=0)
    assert best_chunk > first_chunk + 0.2
    assert best_chunk > alone - 0.15


def test_random_weights_differ_by_chunk(tmp_path: Path) -> None:
    """A logit that were always the first chunk's would pass with one chunk alone."""
    folder = save_model("bert", tmp_path / "model")
    results = Reranker.open(str(folder), limits={"long_documents": "max_chunk"}).rerank(QUERY, texts())
    assert any(result.chunk is not None and result.chunk[0] > 0 for result in results)
