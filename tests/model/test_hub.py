"""Values that vendors and other projects' tests publish of models. Skipped where no hub answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Sequence

import numpy as np
import pytest

from reranker_batch.model.checks.golden import GOLDEN, RED_PLANET, find_golden
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.prompting import PromptPairEncoder
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.recipes import choose_recipe
from reranker_batch.model.source.files import resolve_model

pytestmark = [pytest.mark.hub, pytest.mark.slow, pytest.mark.timeout(1800)]

PANDA = [
    ("query", "passage"),
    ("what is panda?", "hi"),
    (
        "what is panda?",
        "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species "
        "endemic to China.",
    ),
]
OWNERS = {
    "bge": "BAAI",
    "granite": "ibm-granite",
    "gte": "Alibaba-NLP",
    "jina": "jinaai",
    "ms": "cross-encoder",
    "mxbai": "mixedbread-ai",
    "Qwen3": "Qwen",
    "zerank": "zeroentropy",
}
FINE_TUNES = {
    "bge-reranker-v2-m3-ko": "dragonkue",
    "cross-encoder-russian-msmarco": "DiTy",
    "japanese-bge-reranker-v2-m3-v1": "hotchpotch",
    "mmarco-mMiniLMv2-L12-H384-v1": "cross-encoder",
    "ruri-v3-reranker-310m": "cl-nagoya",
}
MODELS = [
    "alibaba-nlp-community/gte-multilingual-reranker-base",
    *(
        f"tomaarsen/{name}"
        if name.endswith("-seq-cls")
        else f"{FINE_TUNES.get(name) or OWNERS[name.partition('-')[0]]}/{name}"
        for name in GOLDEN
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _hub() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        pytest.skip("HF_HUB_OFFLINE is set")
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(f"{endpoint}/api/models/BAAI/bge-reranker-v2-m3", timeout=3).close()
    except (OSError, urllib.error.URLError) as error:
        pytest.skip(f"no hub answers at {endpoint} ({type(error).__name__})")


def logits_of(name: str, pairs: Sequence[tuple[str, str]], dtype: str) -> np.ndarray:
    files = resolve_model(name)
    recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
    encoder = load_pair_encoder(files.folder, recipe=recipe)
    return score_pairs(start_scorer(files.folder, recipe=recipe, dtype=dtype, device="cpu"), encoder, pairs)


@pytest.mark.parametrize("name", MODELS)
def test_published_values_come_out(name: str) -> None:
    golden = find_golden(name)
    assert golden is not None
    assert golden.differences(logits_of(name, RED_PLANET, "float32")).max() <= golden.tolerance


def test_bge_reranker_v2_m3_gives_the_logits_of_its_readme() -> None:
    """Published from float16."""
    logits = logits_of("BAAI/bge-reranker-v2-m3", PANDA, "float32")
    np.testing.assert_allclose(logits, [-5.65234375, -8.1875, 5.26171875], atol=0.02)


@pytest.mark.parametrize(
    ("name", "answers"),
    [("Qwen/Qwen3-Reranker-0.6B", (9693, 2152)), ("Qwen/Qwen3-Reranker-8B", (9693, 2152))],
)
def test_the_answers_are_the_published_tokens(name: str, answers: tuple[int, int]) -> None:
    files = resolve_model(name, with_weights=False)
    recipe = choose_recipe(files.folder, files.config(), model=files.name).recipe
    encoder = load_pair_encoder(files.folder, recipe=recipe)
    assert isinstance(encoder, PromptPairEncoder)
    assert encoder.answer_ids == answers


def test_bge_reranker_large_gives_the_logits_of_its_readme() -> None:
    logits = logits_of("BAAI/bge-reranker-large", PANDA[1:], "float32")
    np.testing.assert_allclose(logits, [-5.60546875, 5.76171875], atol=0.02)
