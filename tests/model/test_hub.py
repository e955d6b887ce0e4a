"""Golden values of published models, from recipes.md. Skipped where no hub answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

import numpy as np
import pytest

from reranker_batch.model.checks import score_pairs, start_scorer
from reranker_batch.model.files import resolve_model
from reranker_batch.model.prompting import PromptPairEncoder
from reranker_batch.model.recipes import detect_model
from reranker_batch.model.tokenizing import load_pair_encoder

pytestmark = [pytest.mark.hub, pytest.mark.slow, pytest.mark.timeout(1800)]

RED_PLANET = [
    ("Which planet is known as the Red Planet?", document)
    for document in (
        "Venus is often called Earth's twin because of its similar size and proximity.",
        "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
        "Jupiter, the largest planet in our solar system, has a prominent red spot.",
        "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
    )
]
PANDA = [
    ("query", "passage"),
    ("what is panda?", "hi"),
    (
        "what is panda?",
        "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species "
        "endemic to China.",
    ),
]
SIGMOID = {
    "BAAI/bge-reranker-v2-m3": [0.01855, 1.0, 0.78906, 0.98828],
    "BAAI/bge-reranker-base": [0.87891, 0.99609, 0.99609, 0.05029],
    "BAAI/bge-reranker-large": [0.69922, 1.0, 0.97266, 0.81641],
    "Alibaba-NLP/gte-multilingual-reranker-base": [0.38672, 0.85156, 0.70312, 0.65234],
    "alibaba-nlp-community/gte-multilingual-reranker-base": [0.38672, 0.85156, 0.70312, 0.65234],
    "jinaai/jina-reranker-v2-base-multilingual": [0.23633, 0.71484, 0.50391, 0.31055],
    "Alibaba-NLP/gte-reranker-modernbert-base": [0.80859, 0.95312, 0.875, 0.91797],
    "mixedbread-ai/mxbai-rerank-base-v1": [0.05176, 0.96875, 0.71484, 0.16895],
}
LOGITS = {
    "cross-encoder/ms-marco-MiniLM-L6-v2": [-6.53125, 9.6875, 6.90625, 6.6875],
    "cross-encoder/ms-marco-MiniLM-L12-v2": [-7.15625, 9.5, 5.71875, 6.84375],
    "cross-encoder/ms-marco-TinyBERT-L2-v2": [-10.875, 7.0, 5.875, 5.6875],
}


@pytest.fixture(scope="module", autouse=True)
def _hub() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        pytest.skip("HF_HUB_OFFLINE is set")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(f"{endpoint}/api/models/BAAI/bge-reranker-v2-m3", timeout=3).close()
    except (OSError, urllib.error.URLError) as error:
        pytest.skip(f"no hub answers at {endpoint} ({type(error).__name__})")


def logits_of(name: str, pairs: list[tuple[str, str]], dtype: str) -> np.ndarray:
    files = resolve_model(name)
    recipe = detect_model(files.folder, files.config(), model=files.name).recipe
    encoder = load_pair_encoder(files.folder, recipe=recipe)
    return score_pairs(start_scorer(files.folder, recipe=recipe, dtype=dtype, device="cpu"), encoder, pairs)


@pytest.mark.parametrize("name", SIGMOID)
def test_published_probabilities_come_out(name: str) -> None:
    """Published from bfloat16, so that the last of its eight bits may differ."""
    scores = 1 / (1 + np.exp(-logits_of(name, RED_PLANET, "float32")))
    np.testing.assert_allclose(scores, SIGMOID[name], atol=0.02)


@pytest.mark.parametrize("name", LOGITS)
def test_published_logits_come_out(name: str) -> None:
    np.testing.assert_allclose(logits_of(name, RED_PLANET, "float32"), LOGITS[name], atol=0.06)


def test_bge_reranker_v2_m3_gives_the_logits_of_its_readme() -> None:
    """Published from float16."""
    logits = logits_of("BAAI/bge-reranker-v2-m3", PANDA, "float32")
    np.testing.assert_allclose(logits, [-5.65234375, -8.1875, 5.26171875], atol=0.02)


@pytest.mark.parametrize("name", ["Qwen/Qwen3-Reranker-0.6B", "tomaarsen/Qwen3-Reranker-0.6B-seq-cls"])
def test_qwen3_reranker_gives_the_raw_differences_of_sentence_transformers(name: str) -> None:
    """Published in float32, with a tolerance of 1e-4."""
    expected = [-3.109297752380371, 7.120389938354492, -0.3787546157836914, 3.541637420654297]
    np.testing.assert_allclose(logits_of(name, RED_PLANET, "float32"), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "answers"),
    [("Qwen/Qwen3-Reranker-0.6B", (9693, 2152)), ("Qwen/Qwen3-Reranker-8B", (9693, 2152))],
)
def test_the_answers_are_the_published_tokens(name: str, answers: tuple[int, int]) -> None:
    files = resolve_model(name, with_weights=False)
    recipe = detect_model(files.folder, files.config(), model=files.name).recipe
    encoder = load_pair_encoder(files.folder, recipe=recipe)
    assert isinstance(encoder, PromptPairEncoder)
    assert encoder.answer_ids == answers


def test_bge_reranker_large_gives_the_logits_of_its_readme() -> None:
    logits = logits_of("BAAI/bge-reranker-large", PANDA[1:], "float32")
    np.testing.assert_allclose(logits, [-5.60546875, 5.76171875], atol=0.02)
