"""Which recipe serves which model, and which models are refused before anything is loaded."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reranker_batch.errors import ModelError
from reranker_batch.model.recipes import (
    CROSS_ENCODER,
    INSTRUCTS,
    RECIPES,
    Recipe,
    choose_recipe,
    detection,
    find_instruct,
)

ONE = {"0": "LABEL_0"}
NOWHERE = Path("/nowhere")
"""A folder without files: a recipe is then chosen by the config and the name alone."""


def config(model_type: str, architecture: str | None, **more: Any) -> dict[str, Any]:
    return {"model_type": model_type, "architectures": [architecture] if architecture else None, "id2label": ONE} | more


def choose(config: dict[str, Any], name: str | None = "auto") -> Recipe:
    return choose_recipe(NOWHERE, config, model="x", name=name).recipe


@pytest.mark.parametrize(
    ("model_type", "architecture"),
    [
        ("bert", "BertForSequenceClassification"),
        ("xlm-roberta", "XLMRobertaForSequenceClassification"),
        ("gte", "GteForSequenceClassification"),
        ("modernbert", "ModernBertForSequenceClassification"),
        ("deberta-v2", "DebertaV2ForSequenceClassification"),
        ("electra", None),
        ("albert", "AlbertForSequenceClassification"),
        ("xlm-roberta-xl", "XLMRobertaXLForSequenceClassification"),
    ],
)
@pytest.mark.parametrize("name", [None, "auto", "cross-encoder"])
def test_encoders_with_one_label_are_recognised(model_type: str, architecture: str | None, name: str | None) -> None:
    assert choose(config(model_type, architecture), name) is CROSS_ENCODER


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (config("llama", "LlamaForCausalLM"), "prompt template"),
        (config("llama", "LlamaForSequenceClassification"), "near random"),
        (config("funnel", "FunnelForSequenceClassification"), "a funnel model: .* type of its own"),
        (config("bert", "HF_ColBERT"), "late interaction"),
        (config("roc_bert", "RoCBertForSequenceClassification"), "encoder of a family that was not compared"),
        (config("bert", "BertModel"), "no sequence-classification head"),
        (config("own", "OwnForSequenceClassification"), "model_type='own'"),
        ({}, "model_type=None"),
    ],
)
def test_what_no_recipe_serves_is_refused_with_what_was_seen_and_what_is_known(
    seen: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        choose(seen)
    assert "xlm-roberta" in str(error.value)


@pytest.mark.parametrize(
    "labels", [{"id2label": {"0": "no", "1": "yes"}}, {"id2label": None}, {"num_labels": 3, "id2label": {}}]
)
def test_a_head_with_several_labels_is_refused(labels: dict[str, Any]) -> None:
    """A config.json that says nothing about labels means two."""
    with pytest.raises(ModelError, match="labels"):
        choose(config("bert", "BertForSequenceClassification") | labels)


def test_a_name_that_is_no_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'qwen'.*auto, bge-reranker-v2-gemma, cross-encoder"):
        choose(config("bert", "BertForSequenceClassification"), "qwen")


def test_a_recipe_named_for_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="does not serve"):
        choose(config("qwen3", "Qwen3ForSequenceClassification"), "cross-encoder")


def test_a_recipe_may_be_named_for_a_model_with_code_of_its_own() -> None:
    own = {"auto_map": {"AutoModelForSequenceClassification": "modeling.Own"}}
    assert choose(config("own", "OwnForSequenceClassification", **own), "cross-encoder") is CROSS_ENCODER


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, 8192),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "longformer", "max_position_embeddings": 4098, "pad_token_id": 1}, 4096),
        ({"model_type": "albert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
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


QWEN3 = config("qwen3", "Qwen3ForCausalLM", id2label=None)


@pytest.mark.parametrize(
    ("seen", "model", "expected"),
    [
        (QWEN3, "Qwen/Qwen3-Reranker-0.6B", "qwen3-reranker"),
        (QWEN3, "zeroentropy/zerank-2", "zerank"),
        (QWEN3, "zeroentropy/zerank-1-small", "zerank"),
        (QWEN3, "qwen/qwen3-reranker-8B", "qwen3-reranker"),
        (config("qwen3", "Qwen3ForSequenceClassification"), "tomaarsen/Qwen3-Reranker-0.6B-seq-cls", "qwen3-reranker"),
        (
            config("qwen2", "Qwen2ForCausalLM", hidden_size=896),
            "mixedbread-ai/mxbai-rerank-base-v2",
            "mxbai-rerank-base-v2",
        ),
        (
            config("qwen2", "Qwen2ForCausalLM", hidden_size=1536),
            "mixedbread-ai/mxbai-rerank-large-v2",
            "mxbai-rerank-large-v2",
        ),
        (config("gemma", "GemmaForCausalLM"), "BAAI/bge-reranker-v2-gemma", "bge-reranker-v2-gemma"),
        (
            config("deberta-v2", "DebertaV2ForSequenceClassification"),
            "mixedbread-ai/mxbai-rerank-base-v1",
            "cross-encoder",
        ),
    ],
)
def test_a_family_is_recognised_by_its_name(tmp_path: Path, seen: dict[str, Any], model: str, expected: str) -> None:
    found = choose_recipe(tmp_path, seen, model=model)
    assert found.recipe.name == expected
    assert seen["model_type"] in found.reason


@pytest.mark.parametrize("model", ["/models/Qwen3-Reranker-0.6B", "Qwen3-Reranker-0.6B", "me/Qwen3-Reranker-0.6B-ours"])
@pytest.mark.parametrize("base", [None, "Qwen/Qwen3-Reranker-0.6B"])
def test_a_folders_name_and_the_model_it_was_made_from_are_no_evidence(
    tmp_path: Path, model: str, base: str | None
) -> None:
    """A fine-tune keeps both, and may have been trained with another prompt."""
    with pytest.raises(ModelError, match="neither its name nor its files.*model.recipe=qwen3-reranker"):
        choose_recipe(tmp_path, QWEN3 | {"_name_or_path": base}, model=model)


def test_the_vendors_name_is_no_evidence_for_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_recipe(tmp_path, QWEN3, model="Qwen/Qwen3-Reranker-4B").recipe.name == "qwen3-reranker"
    (tmp_path / "Qwen/Qwen3-Reranker-4B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="neither its name nor its files"):
        choose_recipe(tmp_path, QWEN3, model="Qwen/Qwen3-Reranker-4B")


@pytest.mark.parametrize("model", ["/models/jina-reranker-m0", "/models/jina-reranker-v3"])
def test_a_family_known_to_have_another_prompt_is_not_advised_to_take_this_one(tmp_path: Path, model: str) -> None:
    with pytest.raises(ModelError, match="prompt of its own") as error:
        choose_recipe(tmp_path, QWEN3, model=model)
    assert "model.recipe=" not in str(error.value)


@pytest.mark.parametrize(("answers", "advised"), [((9454, None), "zerank"), ((9693, 2152), "qwen3-reranker")])
def test_a_repository_is_advised_a_recipe_with_as_many_answers_as_its_files_name(
    tmp_path: Path, answers: tuple[int, int | None], advised: str
) -> None:
    (tmp_path / "1_LogitScore").mkdir()
    path = tmp_path / "1_LogitScore/config.json"
    path.write_text(json.dumps({"true_token_id": answers[0], "false_token_id": answers[1]}))
    with pytest.raises(ModelError, match=rf"set model\.recipe={advised}\.$"):
        choose_recipe(tmp_path, QWEN3, model="/models/ours")


@pytest.mark.parametrize(("model", "advised"), [("zerank-2", "zerank"), ("Qwen3-Reranker-4B", "qwen3-reranker")])
def test_a_folder_with_a_familys_name_is_advised_that_familys_recipe(tmp_path: Path, model: str, advised: str) -> None:
    with pytest.raises(ModelError, match=rf"set model\.recipe={advised}\.$"):
        choose_recipe(tmp_path, QWEN3, model=f"/models/{model}")
    with pytest.raises(ModelError, match=r"set model\.recipe=qwen3-reranker or model\.recipe=zerank\.$"):
        choose_recipe(tmp_path, QWEN3, model="/models/ours")


@pytest.mark.parametrize(
    ("seen", "setting"),
    [
        (QWEN3, "model.recipe=qwen3-reranker"),
        (config("qwen3", "Qwen3ForSequenceClassification"), "model.recipe=qwen3-reranker"),
        (config("gemma", "GemmaForCausalLM"), "model.recipe=bge-reranker-v2-gemma"),
        (config("gemma", "GemmaForSequenceClassification"), "model.recipe=bge-reranker-v2-gemma"),
        (config("qwen2", "Qwen2ForSequenceClassification", hidden_size=896), "model.recipe=mxbai-rerank-base-v2"),
        (config("qwen2", "Qwen2ForSequenceClassification", hidden_size=1536), "model.recipe=mxbai-rerank-large-v2"),
    ],
)
def test_a_model_that_may_be_any_language_model_is_not_guessed(
    tmp_path: Path, seen: dict[str, Any], setting: str
) -> None:
    """A base model has the same config as the reranker made from it."""
    with pytest.raises(ModelError, match=f"neither its name nor its files.*{setting}"):
        choose_recipe(tmp_path, seen, model="Qwen/Qwen3-0.6B")
    name = setting.partition("=")[2]
    assert choose_recipe(tmp_path, seen, model="x", name=name).recipe.name == name


def test_two_families_that_fit_are_not_chosen_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sizes of mxbai-rerank-v2 have one prompt; the shift of one of another size is not known."""
    seen = config("qwen2", "Qwen2ForCausalLM", hidden_size=896)
    model = "mixedbread-ai/mxbai-rerank-base-v2"
    assert choose_recipe(tmp_path, seen, model=model).recipe.name == "mxbai-rerank-base-v2"
    with pytest.raises(ModelError, match="No recipe serves"):
        choose_recipe(tmp_path, seen | {"hidden_size": 64}, model=model)
    other = replace(RECIPES["mxbai-rerank-base-v2"], name="other")
    monkeypatch.setattr(detection, "RECIPES", {**RECIPES, "other": other})
    with pytest.raises(ModelError, match="several recipes: mxbai-rerank-base-v2, other"):
        choose_recipe(tmp_path, seen, model=model)


def test_named_instructions_are_those_of_the_vendor_and_any_other_text_is_itself() -> None:
    assert find_instruct("qa_retrieval") == INSTRUCTS["qa_retrieval"]
    assert find_instruct("semantic_similarity") == "Retrieve semantically similar text."
    assert find_instruct("Find code.") == "Find code."
    assert find_instruct(None) is find_instruct("") is None


def test_an_instruction_is_taken_or_said_to_be_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = choose_recipe(tmp_path, QWEN3, model="Qwen/Qwen3-Reranker-0.6B", instruct="semantic_similarity").recipe
    assert taken.resolved_instruct == "Retrieve semantically similar text."
    default = choose_recipe(tmp_path, QWEN3, model="Qwen/Qwen3-Reranker-0.6B").recipe
    assert (default.resolved_instruct or "").startswith("Given a web search query")
    assert not caplog.records
    bert = config("bert", "BertForSequenceClassification")
    with caplog.at_level(logging.WARNING):
        ignored = choose_recipe(tmp_path, bert, model="x", instruct="qa_retrieval").recipe
    assert ignored.resolved_instruct is None
    assert "model.instruct is ignored" in caplog.text


def test_a_repositorys_own_default_prompt_is_the_instruction(tmp_path: Path) -> None:
    settings = {"prompts": {"code": "Find code."}, "default_prompt_name": "code"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    found = choose_recipe(tmp_path, QWEN3, model="Qwen/Qwen3-Reranker-0.6B")
    assert found.recipe.resolved_instruct == "Find code."
    asked = choose_recipe(tmp_path, QWEN3, model="Qwen/Qwen3-Reranker-0.6B", instruct="Find prose.")
    assert asked.recipe.resolved_instruct == "Find prose."


@pytest.mark.parametrize("key", ["activation_fn", "sbert_ce_default_activation_function"])
def test_another_activation_of_the_repository_is_told(tmp_path: Path, key: str) -> None:
    identity = "torch.nn.modules.linear.Identity"
    own = {"sentence_transformers": {key: identity}} if key == "activation_fn" else {key: identity}
    bert = config("bert", "BertForSequenceClassification")
    [note] = choose_recipe(tmp_path, bert | own, model="x").notes
    assert "Identity" in note
    assert choose_recipe(tmp_path, bert, model="x").notes == ()


@pytest.mark.parametrize("recipe", [item for item in RECIPES.values() if item.prompt], ids=lambda item: item.name)
def test_a_prompt_has_a_query_before_a_document_that_ends_its_piece(recipe: Recipe) -> None:
    assert recipe.prompt is not None
    for pieces in filter(None, (recipe.prompt.pieces, recipe.prompt.instructed_pieces)):
        text = "".join(pieces)
        assert text.index("{query}") < text.index(recipe.prompt.lead + "{document}")
        assert [piece.endswith("{document}") for piece in pieces if "{document}" in piece] == [True]
    assert recipe.uses_instruct == ("{instruct}" in "".join([text, *recipe.prompt.pieces]))
