"""Which recipe serves which model, and which models are refused before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from reranker_batch.errors import ModelError
from reranker_batch.model.recipes import CROSS_ENCODER, RECIPES, detect_recipe

ONE = {"0": "LABEL_0"}


def config(model_type: str, architecture: str | None, **more: Any) -> dict[str, Any]:
    return {"model_type": model_type, "architectures": [architecture] if architecture else None, "id2label": ONE} | more


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("bert", "BertForSequenceClassification"),
        ("xlm-roberta", "XLMRobertaForSequenceClassification"),
        ("gte", "GteForSequenceClassification"),
        ("modernbert", "ModernBertForSequenceClassification"),
        ("deberta-v2", "DebertaV2ForSequenceClassification"),
        ("electra", None),
    ],
)
@pytest.mark.parametrize("name", [None, "auto", "cross-encoder"])
def test_encoders_with_one_label_are_recognised(model_type: str, architecture: str | None, name: str | None) -> None:
    assert detect_recipe(config(model_type, architecture), name) is CROSS_ENCODER


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (config("qwen3", "Qwen3ForCausalLM"), "prompt template"),
        (config("qwen3", "Qwen3ForSequenceClassification"), "near random"),
        (config("bert", "BertModel"), "no sequence-classification head"),
        (config("new", "NewForSequenceClassification"), "model_type='new'"),
        ({}, "model_type=None"),
    ],
)
def test_what_no_recipe_serves_is_refused_with_what_was_seen_and_what_is_known(
    seen: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        detect_recipe(seen)
    assert "xlm-roberta" in str(error.value)


@pytest.mark.parametrize(
    "labels", [{"id2label": {"0": "no", "1": "yes"}}, {"id2label": None}, {"num_labels": 3, "id2label": {}}]
)
def test_a_head_with_several_labels_is_refused(labels: dict[str, Any]) -> None:
    """A config.json that says nothing about labels means two."""
    with pytest.raises(ModelError, match="labels"):
        detect_recipe(config("bert", "BertForSequenceClassification") | labels)


def test_a_name_that_is_no_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'qwen'.*auto, cross-encoder"):
        detect_recipe(config("bert", "BertForSequenceClassification"), "qwen")


def test_a_recipe_named_for_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="does not serve"):
        detect_recipe(config("qwen3", "Qwen3ForSequenceClassification"), "cross-encoder")


def test_a_recipe_may_be_named_for_a_model_with_code_of_its_own() -> None:
    own = {"auto_map": {"AutoModelForSequenceClassification": "modeling.Own"}}
    assert detect_recipe(config("new", "NewForSequenceClassification", **own), "cross-encoder") is CROSS_ENCODER


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, 8192),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "gte", "max_position_embeddings": 8192, "pad_token_id": 1}, 8192),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"model_type": "bert"}, None),
    ],
)
def test_usable_positions_start_where_the_family_starts_them(seen: dict[str, Any], expected: int | None) -> None:
    assert CROSS_ENCODER.max_positions(seen) == expected


def test_every_recipe_says_what_it_is_and_where_it_is_from() -> None:
    assert all(recipe.description and "https://" in recipe.source for recipe in RECIPES.values())
    assert all(name == recipe.name for name, recipe in RECIPES.items())
