"""Less common encoders give the logits of plain transformers, whatever shares their micro-batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_encoders import ENCODERS, save_encoder
from tiny_models import save_model, save_tokenizer

from reranker_batch.core.pairs import FloatArray, encode_text_pairs
from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import start_scorer
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import CROSS_ENCODER, choose_recipe
from reranker_batch.model.source.files import resolve_model

Pairs = list[tuple[str, str]]
Save = Callable[..., Path]


def plain_logits(folder: Path, pairs: Pairs) -> dict[tuple[str, str], float]:
    """Of plain transformers, one pair at a time, for the pairs that fit."""
    with quiet_loading():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    logits = {}
    with torch.inference_mode():
        for query, document in pairs:
            inputs = tokenizer([query], [document], return_tensors="pt", verbose=False)
            if inputs["input_ids"].shape[1] <= tokenizer.model_max_length:
                logits[query, document] = model(**inputs).logits.item()
    return logits


def require_exact(folder: Path, pairs: Pairs) -> str:
    """The model is detected, its logits are those of plain transformers under two budgets; says how it was run."""
    recipe = choose_recipe(folder, read_config(folder), model=str(folder)).recipe
    assert recipe is CROSS_ENCODER
    encoder, scorer = load_pair_encoder(folder, recipe=recipe), start_scorer(folder, recipe=recipe)
    theirs = plain_logits(folder, pairs)
    expected: FloatArray = np.array([*theirs.values()], dtype=np.float32)
    assert len(expected) > 30
    assert np.ptp(expected) > 0.1
    inputs = encode_text_pairs(encoder, [*theirs]).inputs
    for budget in (70, 5000):
        scores = scorer.with_budget(budget).score(inputs)
        np.testing.assert_allclose(scores.logits, expected, rtol=0, atol=1e-5)
    return scores.execution


@pytest.mark.parametrize("name", ENCODERS)
def test_logits_equal_plain_transformers_one_pair_at_a_time(name: str, tmp_path: Path, pairs: Pairs) -> None:
    with quiet_loading():
        folder = save_encoder(name, tmp_path)
    assert resolve_model(str(folder)).folder == folder
    assert require_exact(folder, pairs).startswith(ENCODERS[name][2])


def test_positions_of_roberta_are_counted_as_transformers_does_where_the_padding_is_a_word(
    tmp_path: Path, pairs: Pairs
) -> None:
    word = "カ"
    padding = save_tokenizer("xlm-roberta", tmp_path).convert_tokens_to_ids(word)
    assert isinstance(padding, int)
    with quiet_loading():
        folder = save_model(
            "xlm-roberta", tmp_path / "model", pad_token_id=padding, max_position_embeddings=66 + padding
        )
    with_word = [(f"{word} {query}", f"{document[:8]} {word}") for query, document in pairs[:9]]
    assert require_exact(folder, [*with_word, *pairs]).startswith("packed")


@pytest.mark.parametrize(("pooling", "run"), [("mean", "packed"), ("late", "padded")])
def test_every_pooling_of_eurobert_is_exact(tmp_path: Path, pairs: Pairs, pooling: str, run: str) -> None:
    with quiet_loading():
        folder = save_encoder("eurobert", tmp_path, classifier_pooling=pooling)
    assert require_exact(folder, pairs).startswith(run)


def test_no_padding_token_is_no_obstacle(tmp_path: Path, pairs: Pairs) -> None:
    with quiet_loading():
        folder = save_model("xlm-roberta", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": -1}))
    assert require_exact(folder, pairs).startswith("padded")


def test_a_model_that_padding_does_not_change_is_padded(tmp_path: Path, pairs: Pairs) -> None:
    """MobileBERT reads the tokens around each one: with a padding token of zeros the last reads the same."""
    with quiet_loading():
        folder = save_encoder("mobilebert", tmp_path, normalization_type="layer_norm")
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[model.config.pad_token_id] = 0
    model.save_pretrained(folder)
    assert require_exact(folder, pairs).startswith("padded")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_padding_that_changes_a_logit_is_noticed_in_every_precision(tmp_path: Path, dtype: str, pairs: Pairs) -> None:
    with quiet_loading():
        folder = save_encoder("convbert", tmp_path)
    encoder, scorer = (
        load_pair_encoder(folder, recipe=CROSS_ENCODER),
        start_scorer(folder, recipe=CROSS_ENCODER, dtype=dtype),
    )
    inputs = encode_text_pairs(encoder, pairs).inputs
    assert scorer.score(inputs).execution.startswith("one length at a time")


LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "factor": 2.0,
    "original_max_position_embeddings": 50,
}


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_rotations_that_depend_on_the_longest_pair_are_refused_unless_all_are_short(
    tmp_path: Path, pairs: Pairs, key: str
) -> None:
    with quiet_loading():
        folder = save_model("gte", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 10_000.0, key: LONGROPE}))
    with pytest.raises(ModelError, match=r'depend on the other pairs. Set "model_max_length": 50 in tokenizer_config'):
        load_pair_encoder(folder, recipe=CROSS_ENCODER)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 50}))
    assert require_exact(folder, pairs).startswith("packed")


def test_settings_with_which_a_class_fails_are_refused_by_name(tmp_path: Path) -> None:
    with quiet_loading():
        folder = save_encoder("eurobert", tmp_path, classifier_pooling="cls")
    with pytest.raises(ModelError, match=r"EuroBertForSequenceClassification of transformers fails .*config\.json"):
        start_scorer(folder, recipe=CROSS_ENCODER)


@pytest.mark.parametrize("settings", [{"attention_type": "block_sparse"}, {}])
def test_sparse_blocks_whose_scores_depend_on_earlier_pairs_are_refused(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(transformers.BigBirdConfig(**settings).to_json_string(use_diff=True))
    with pytest.raises(ModelError, match='attends in sparse blocks.*"original_full"'):
        resolve_model(str(tmp_path), with_weights=False)
    full = transformers.BigBirdConfig(attention_type="original_full")
    (tmp_path / "config.json").write_text(full.to_json_string())
    assert resolve_model(str(tmp_path), with_weights=False).folder == tmp_path
