"""Qwen3-VL-Reranker for text: which folders are read as a plain Qwen3, and what is not read of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tiny_causal import save_causal

from reranker_batch.errors import ModelError
from reranker_batch.model.checks.start import score_pairs, start_scorer
from reranker_batch.model.encoding.canaries import SCORED_PAIRS
from reranker_batch.model.encoding.tokenizing import load_pair_encoder
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import RECIPES, choose_recipe
from reranker_batch.model.source.files import ModelFiles, resolve_model

Change = Callable[[dict[str, Any]], object]
RECIPE = RECIPES["qwen3-vl-reranker"]
QUERY, DOCUMENT = (
    f'{{{{ messages | selectattr("role", "eq", "{role}") | map(attribute="content") | first }}}}'
    for role in ("query", "document")
)
INSTRUCT = (
    '{{ messages | selectattr("role", "eq", "system") | map(attribute="content") | first | '
    'default("Given a search query, retrieve relevant candidates that answer the query.") }}'
)
TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    f"<Instruct>: {INSTRUCT}<Query>:{QUERY}\n<Document>:{DOCUMENT}<|im_end|>\n<|im_start|>assistant\n"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen3-vl")
    with quiet_loading():
        save_causal("qwen3-vl-reranker", folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/reranker.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def configured(folder: Path, change: Change) -> ModelFiles:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    return resolve_model(str(folder))


def chosen(files: ModelFiles, **kwargs: Any) -> str:
    return choose_recipe(files.folder, files.config(), model=files.name, **kwargs).recipe.name


def logits(folder: Path) -> np.ndarray:
    return score_pairs(start_scorer(folder, recipe=RECIPE), load_pair_encoder(folder, recipe=RECIPE), SCORED_PAIRS)


def as_older_versions_write(config: dict[str, Any]) -> None:
    """The base of the positions next to their scaling, and the tie in both configs."""
    rope = config["text_config"].pop("rope_parameters")
    config["text_config"] |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope, "tie_word_embeddings": True}


def test_the_config_of_older_versions_is_read_too(folder: Path) -> None:
    before = logits(folder)
    assert configured(folder, as_older_versions_write).config()["rope_parameters"]["rope_theta"] == 5_000_000
    assert logits(folder).tobytes() == before.tobytes()


def test_the_template_or_the_vendors_name_is_the_evidence(folder: Path) -> None:
    files = resolve_model(str(folder))
    assert chosen(files) == RECIPE.name
    assert chosen(files, instruct="Find prose.") == RECIPE.name
    path = folder / "additional_chat_templates/reranker.jinja"
    path.write_text(TEMPLATE.replace("<Query>:", "<Query>: "))
    with pytest.raises(ModelError, match=r"makes '.*capital of France.*the recipe qwen3-vl-reranker makes"):
        chosen(files)
    path.unlink()
    with pytest.raises(ModelError, match=r"neither its name nor its files.*set model\.recipe=qwen3-vl-reranker\.$"):
        chosen(files)
    named = choose_recipe(folder, files.config(), model="Qwen/Qwen3-VL-Reranker-8B")
    assert named.recipe is RECIPE


def test_recipes_of_plain_qwen3_do_not_serve_it_and_it_serves_no_plain_qwen3(folder: Path, tmp_path: Path) -> None:
    files = resolve_model(str(folder))
    for name in ("qwen3-reranker", "zerank"):
        with pytest.raises(ModelError, match=f"model.recipe='{name}' does not serve"):
            chosen(files, name=name)
    plain = resolve_model(str(save_causal("qwen3-reranker", tmp_path / "plain")))
    assert chosen(plain, name="qwen3-reranker") == "qwen3-reranker"
    with pytest.raises(ModelError, match="does not serve"):
        chosen(plain, name=RECIPE.name)


REFUSED: dict[str, Change] = {
    "positions that are stretched": lambda config: config["text_config"]["rope_parameters"].update(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=512
    ),
    "another class": lambda config: config.update(architectures=["Qwen3VLForTokenClassification"]),
    "another family": lambda config: config.update(model_type="qwen3_vl_moe"),
    "no language model": lambda config: config.pop("text_config"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_is_not_that_of_a_plain_qwen3_is_refused(folder: Path, name: str) -> None:
    assert chosen(configured(folder, lambda config: None)) == RECIPE.name
    with pytest.raises(ModelError, match="No recipe serves this model"):
        chosen(configured(folder, REFUSED[name]))


BROKEN: dict[str, tuple[Change, str]] = {
    "a setting missing": (lambda config: config["text_config"].pop("hidden_size"), "lacks a setting .*hidden_size"),
    "too many layers": (lambda config: config["text_config"].update(num_hidden_layers=10**6), "num_hidden_layers"),
    "quantized": (lambda config: config.update(quantization_config={"quant_method": "fp8"}), "is quantized .fp8"),
    "code of its own": (
        lambda config: config.update(auto_map={"AutoModelForCausalLM": "modeling.Own"}),
        "code of its own",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_or_unusual_config_is_refused_by_what_is_wrong(folder: Path, name: str) -> None:
    change, message = BROKEN[name]
    configured(folder, lambda config: None)
    with pytest.raises(ModelError, match=message):
        configured(folder, change)


def test_the_vision_tower_is_not_read_and_not_counted(folder: Path) -> None:
    path = folder / "model.safetensors"
    before, counted = logits(folder), resolve_model(str(folder)).num_weights()
    weights = load_file(path)
    language = {name: weight for name, weight in weights.items() if "visual" not in name}
    assert len(language) < len(weights)
    save_file(language, path)
    assert logits(folder).tobytes() == before.tobytes()
    assert resolve_model(str(folder)).num_weights() == counted


def test_weights_of_the_language_model_that_are_missing_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({name: weight for name, weight in weights.items() if "layers.1.mlp" not in name}, path)
    with pytest.raises(ModelError, match=r"Weights are missing .*layers\.1\.mlp"):
        logits(folder)
