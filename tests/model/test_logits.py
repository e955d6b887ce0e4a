"""Logits agree with plain transformers and with sentence-transformers, family by family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import cut_pairs
from reranker_batch.model.checks.start import encode_text_pairs, start_scorer
from reranker_batch.model.encoding.tokenizing import TokenizerPairEncoder, load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import choose_recipe
from reranker_batch.model.scorer import ModelScorer
from reranker_batch.model.source.files import read_config

GetFolder = Callable[[str], Path]
Pairs = list[tuple[str, str]]

# What stands around the ids of a query and a document, written from the vendors' recipes.
TEMPLATES = {
    "bert": ("[CLS]", "[SEP]", "[SEP]"),
    "electra": ("[CLS]", "[SEP]", "[SEP]"),
    "distilbert": ("[CLS]", "[SEP]", "[SEP]"),
    "modernbert": ("[CLS]", "[SEP]", "[SEP]"),
    "modernbert-mean": ("[CLS]", "[SEP]", "[SEP]"),
    "deberta-v2": ("[CLS]", "[SEP]", "[SEP]"),
    "xlm-roberta": ("<s>", "</s></s>", "</s>"),
    "gte": ("<s>", "</s></s>", "</s>"),
    "roberta": ("<s>", "</s></s>", "</s>"),
}


@lru_cache
def load(folder: Path, **kwargs: Any) -> tuple[TokenizerPairEncoder, ModelScorer[Any]]:
    recipe = choose_recipe(folder, read_config(folder), model=str(folder)).recipe
    encoder = load_pair_encoder(folder, recipe=recipe)
    assert isinstance(encoder, TokenizerPairEncoder)
    return encoder, start_scorer(folder, recipe=recipe, **kwargs)


def score(folder: Path, pairs: Pairs, **kwargs: Any) -> np.ndarray:
    encoder, scorer = load(folder, **kwargs)
    encoded = encode_text_pairs(encoder, pairs)
    return scorer.score(encoded.inputs).logits


def plain(folder: Path) -> tuple[Any, Any]:
    with quiet_loading():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        return transformers.AutoTokenizer.from_pretrained(folder), model.eval()


def plain_inputs(tokenizer: Any, family: str, query: str, document: str) -> dict[str, torch.Tensor]:
    """One pair by the plain recipe; one that is too long with the cut that the project documents."""
    inputs = tokenizer([query], [document], return_tensors="pt", verbose=False)
    if inputs["input_ids"].shape[1] <= tokenizer.model_max_length:
        return dict(inputs)
    before, between, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEMPLATES[family])
    q, d = (tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in (query, document))
    kept_q, kept_d = cut_pairs(
        np.array([len(q)]),
        np.array([len(d)]),
        max_pair_tokens=tokenizer.model_max_length,
        num_special_tokens=len(before + between + after),
    )
    first = before + q[: kept_q[0]] + between
    second = d[: kept_d[0]] + after
    ids = {"input_ids": torch.tensor([first + second])}
    if "token_type_ids" in inputs:
        ids["token_type_ids"] = torch.tensor([[0] * len(first) + [1] * len(second)])
    return ids


def plain_logits(folder: Path, family: str, pairs: Pairs) -> np.ndarray:
    tokenizer, model = plain(folder)
    with torch.inference_mode():
        logits = [model(**plain_inputs(tokenizer, family, *pair)).logits.item() for pair in pairs]
    return np.array(logits, dtype=np.float32)


def test_logits_equal_plain_transformers_one_pair_at_a_time(family: str, model_folder: GetFolder, pairs: Pairs) -> None:
    folder = model_folder(family)
    ours = score(folder, pairs, max_batch_tokens=512)
    theirs = plain_logits(folder, family, pairs)
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_logits_equal_sentence_transformers_for_pairs_that_fit(
    family: str, model_folder: GetFolder, pairs: Pairs
) -> None:
    folder = model_folder(family)
    encoder, _ = load(folder)
    fitting = [pair for pair in pairs if len(plain_ids(encoder, pair)) <= encoder.max_pair_tokens]
    assert len(fitting) > 20
    with quiet_loading():
        peer = CrossEncoder(str(folder), device="cpu")
    theirs = peer.predict(fitting, activation_fn=torch.nn.Identity(), batch_size=8, show_progress_bar=False)
    np.testing.assert_allclose(score(folder, fitting), theirs, rtol=0, atol=1e-5)


def plain_ids(encoder: TokenizerPairEncoder, pair: tuple[str, str]) -> list[int]:
    texts = encoder.encode_texts(pair, max_tokens=None)
    return [*texts.tokens.values.tolist()] + [0] * encoder.num_special_tokens


@pytest.mark.parametrize("budget", [64, 700])
def test_token_budget_does_not_change_logits(budget: int, family: str, model_folder: GetFolder, pairs: Pairs) -> None:
    encoder, scorer = load(model_folder(family), max_batch_tokens=8192)
    encoded = encode_text_pairs(encoder, pairs)
    one, other = (scorer.with_budget(tokens).score(encoded.inputs).logits for tokens in (8192, budget))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_the_same_pairs_give_the_same_bytes_again(model_folder: GetFolder, pairs: Pairs) -> None:
    encoder, scorer = load(model_folder("bert"), max_batch_tokens=256)
    encoded = encode_text_pairs(encoder, pairs)
    one, other = (scorer.score(encoded.inputs).logits for _ in range(2))
    assert one.tobytes() == other.tobytes()
    assert one.dtype == np.float32


def test_bfloat16_stays_near_float32(family: str, model_folder: GetFolder, pairs: Pairs) -> None:
    folder = model_folder(family)
    exact = score(folder, pairs)
    half = score(folder, pairs, dtype="bfloat16")
    assert np.corrcoef(exact, half)[0, 1] > 0.98


def test_no_pairs_give_no_logits(model_folder: GetFolder) -> None:
    assert score(model_folder("bert"), []).shape == (0,)


def test_a_model_with_two_token_types_sees_where_the_document_begins(model_folder: GetFolder) -> None:
    encoder, scorer = load(model_folder("bert"))
    encoded = encode_text_pairs(encoder, [("abc", "def")])
    inputs = as_tokens(encoded.inputs)
    shifted = scorer.score(replace(inputs, first_type_tokens=inputs.first_type_tokens + 1)).logits
    assert abs(shifted - scorer.score(encoded.inputs).logits).max() > 1e-4
