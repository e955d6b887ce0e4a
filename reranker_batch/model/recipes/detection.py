"""Which recipe serves a model: from its config, its tokenizer's and sentence-transformers' files, and its name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.chat_templates import render_pairs
from reranker_batch.model.folder.module_chain import is_chain
from reranker_batch.model.folder.st_settings import default_activation, default_prompt, stated_answers
from reranker_batch.model.recipes.cross_encoder import CROSS_ENCODER
from reranker_batch.model.recipes.gemma import BGE_RERANKER_V2_GEMMA
from reranker_batch.model.recipes.instructs import find_instruct
from reranker_batch.model.recipes.jina_v3 import JINA_RERANKER_V3, JINA_RERANKER_V3_5
from reranker_batch.model.recipes.labels import positive_label
from reranker_batch.model.recipes.module_chain import MODULE_CHAIN
from reranker_batch.model.recipes.mxbai import MXBAI_RERANK_BASE_V2, MXBAI_RERANK_LARGE_V2
from reranker_batch.model.recipes.nemotron import LLAMA_NEMOTRON_RERANK
from reranker_batch.model.recipes.qwen3 import QWEN3_RERANKER
from reranker_batch.model.recipes.qwen3_vl import QWEN3_VL_RERANKER
from reranker_batch.model.recipes.recipe import Kind, Recipe
from reranker_batch.model.recipes.templates import agreeing, closest, template_difference
from reranker_batch.model.recipes.unserved import reason_of_class, reason_of_type
from reranker_batch.model.recipes.zerank import ZERANK

logger = logging.getLogger(__name__)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        CROSS_ENCODER,
        MODULE_CHAIN,
        QWEN3_RERANKER,
        QWEN3_VL_RERANKER,
        ZERANK,
        MXBAI_RERANK_BASE_V2,
        MXBAI_RERANK_LARGE_V2,
        BGE_RERANKER_V2_GEMMA,
        LLAMA_NEMOTRON_RERANK,
        JINA_RERANKER_V3,
        JINA_RERANKER_V3_5,
    )
}

_SEQUENCE_CLASSIFICATION = "ForSequenceClassification"
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_OTHER_FAMILIES = r"jina-reranker-(v3|m0)[\w.-]*"
"""Names of rerankers that share a class with a recipe's models, and have a prompt that no recipe has."""

_BY_CLASS = {
    Kind.PAIR: ", whose template is the tokenizer's own pair encoding",
    Kind.LIST: ", a class of this family alone",
}
"""Kinds that the class of a model tells, and the reason."""


@dataclass(frozen=True)
class Detected:
    """The recipe of a model, and why it is that one, for the log and the manifest."""

    recipe: Recipe
    reason: str
    notes: tuple[str, ...] = ()
    """What the repository's own files say of the use of its scores."""


def choose_recipe(
    folder: Path,
    config: Mapping[str, Any],
    *,
    model: str,
    name: str | None = "auto",
    instruct: str | None = None,
    positive: int | str | None = None,
) -> Detected:
    """The recipe for a model folder, and the log line that says which; `config` is its config.json.

    `model` is the name it was asked for by, `name` a recipe chosen outright, `instruct` an instruction by name or word
    for word. Without one, the default prompt in sentence-transformers' settings is the instruction. `positive` is the
    relevant label of a head with two, by index or name.

    Raises:
        ModelError: The family is not known, is not scored by a single label, or does not fit `name`; nothing but a
            guess would tell it; or the repository's own template is another one.
    """
    prompt = default_prompt(folder)
    asked = find_instruct(instruct) or prompt
    is_named = name not in (None, "auto")
    detected = _named(folder, config, str(name), asked) if is_named else _detect(folder, config, model, asked)
    recipe = detected.recipe
    label = _positive_label(recipe, config, positive)
    if label is not None:
        recipe = replace(recipe, positive_label=label)
    if instruct and not recipe.uses_instruct:
        logger.warning("model.instruct is ignored: models of the recipe %s take no instruction", recipe.name)
    notes = tuple(_notes(recipe, own_activation(folder, config), prompt))
    logger.info("recipe of %s: %s (%s)%s", model, recipe.name, detected.reason, "".join(f"; {note}" for note in notes))
    return replace(detected, recipe=recipe, notes=notes)


def _with_instruct(recipe: Recipe, instruct: str | None) -> Recipe:
    return recipe.with_instruct(instruct) if recipe.uses_instruct and instruct else recipe


def _notes(recipe: Recipe, activation: str | None, prompt: str | None) -> Iterable[str]:
    if activation and activation != "Sigmoid":
        yield f"the repository's own activation is {activation}; relevance_score is {recipe.activation} anyway"
    if prompt and recipe.instruct == prompt:
        yield f"the repository's default prompt is the instruction: {prompt!r}"


def own_activation(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The activation that sentence-transformers would apply, by its short name."""
    settings = config.get("sentence_transformers") or {}
    older = settings.get("activation_fn") or config.get("sbert_ce_default_activation_function")
    path = default_activation(folder) or older
    return str(path).rpartition(".")[2] if path else None


def _named(folder: Path, config: Mapping[str, Any], name: str, asked: str | None) -> Detected:
    if name not in RECIPES:
        raise ModelError(f"model.recipe={name!r} is not a recipe. Known: auto, {', '.join(sorted(RECIPES))}.")
    _require_fit(RECIPES[name], folder, config)
    return Detected(_with_instruct(RECIPES[name], asked), f"{_seen(config)}, named by model.recipe")


def _detect(folder: Path, config: Mapping[str, Any], model: str, asked: str | None) -> Detected:
    """The one recipe that serves the model.

    Raises:
        ModelError: None does or several do, or there is no evidence for the prompt of the one that could.
    """
    able = [_with_instruct(recipe, asked) for recipe in RECIPES.values() if _serves(recipe, config)]
    able = [recipe for recipe in able if _has_stated_answers(recipe, folder) and _has_its_head(recipe, folder)]
    prompted = [recipe for recipe in able if recipe.kind not in _BY_CLASS]
    detected = [Detected(item, f"{_seen(config)}{_BY_CLASS[item.kind]}") for item in able if item.kind in _BY_CLASS]
    detected += _with_evidence(prompted, folder, config, model) if prompted else []
    if len(detected) > 1:
        names = ", ".join(sorted(item.recipe.name for item in detected))
        raise ModelError(f"The model fits several recipes: {names}. Set model.recipe to the one it was trained for.")
    if not detected:
        raise ModelError(_no_evidence(prompted, config, model) if able else _unknown_family(folder, config))
    return detected[0]


def _with_evidence(able: Sequence[Recipe], folder: Path, config: Mapping[str, Any], model: str) -> list[Detected]:
    """The recipes whose prompt is confirmed, by the name of the repository on the hub or by its own template.

    Raises:
        ModelError: The template is for pairs, and none of the recipes makes its text.
    """
    published = [Detected(recipe, f"{_seen(config)}, published as {model}") for recipe in able if _is_of(recipe, model)]
    if published:
        return published
    templates = render_pairs(folder, able[0].resolved_instruct)
    agreed = [
        Detected(recipe, f"{_seen(config)}, and {template.place} makes its prompt")
        for recipe in able
        if (template := next((item for item in templates if agreeing(recipe, item)), None))
    ]
    if templates and not agreed:
        difference = template_difference(closest(able, templates[0]), templates[0])
        raise ModelError(
            f"The model ({_seen(config)}) has a template of its own that no recipe has: with the pair of a canary text "
            f"{difference}. Its scores would be wrong without an error. If only the instruction differs, set "
            "model.instruct to the repository's."
        )
    return agreed


def _is_of(recipe: Recipe, model: str) -> bool:
    """Whether the model was asked for by the name of a repository on the hub that the recipe was written for."""
    is_published = re.fullmatch(recipe.repositories or "(?!)", model, re.IGNORECASE)
    return bool(is_published) and not Path(model).is_dir()


def _has_stated_answers(recipe: Recipe, folder: Path) -> bool:
    """Whether the recipe reads as many answers as sentence-transformers' files in the folder name, if they do."""
    stated = stated_answers(folder)
    return recipe.prompt is None or stated is None or (len(stated) == 1) == (recipe.prompt.negative is None)


def _has_its_head(recipe: Recipe, folder: Path) -> bool:
    """Whether modules make the logit where the recipe expects it, and nowhere else."""
    return recipe.has_module_head == is_chain(folder)


def _serves(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    is_of_size = recipe.hidden_sizes is None or config.get("hidden_size") in recipe.hidden_sizes
    is_sliding = "sliding_attention" in (config.get("layer_types") or ())
    is_of_layers = recipe.has_sliding_layers in (None, is_sliding)
    is_of_type = config.get("model_type") in recipe.model_types
    return is_of_type and is_of_size and is_of_layers and _has_architecture(recipe, config)


def _has_architecture(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    architectures = _architectures(config)
    is_of_one_layout = recipe.converted_from or recipe.kind is Kind.PROMPT
    if is_of_one_layout and config.get("converted_from") != recipe.converted_from:
        return False
    if not architectures:
        return recipe.kind is Kind.PAIR
    return any(item.endswith(recipe.architectures) for item in architectures)


def _require_fit(recipe: Recipe, folder: Path, config: Mapping[str, Any]) -> None:
    # A model with code of its own has a model_type that nobody can list; naming the recipe vouches for it.
    own_code = config.get("auto_map") or {}
    is_own_code = any(f"AutoModel{architecture}" in own_code for architecture in recipe.architectures)
    fits = config.get("model_type") in recipe.model_types
    if not _has_architecture(recipe, config) or not (is_own_code or fits) or not _has_its_head(recipe, folder):
        raise ModelError(
            f"model.recipe={recipe.name!r} does not serve this model ({_seen(config)}). It serves {_served(recipe)}."
        )


def _served(recipe: Recipe) -> str:
    if recipe.converted_from:
        return recipe.converted_from
    modules = " with a chain of modules" if recipe.has_module_head else ""
    return f"{', '.join(sorted(recipe.model_types))} as *{' or *'.join(recipe.architectures)}{modules}"


def _positive_label(recipe: Recipe, config: Mapping[str, Any], asked: int | str | None) -> int | None:
    if not is_causal(config) and not recipe.has_module_head and recipe.kind is not Kind.LIST:
        return positive_label(config, asked, seen=_seen(config))
    if asked is not None:
        raise ModelError(f"model.positive_label={asked!r}: the model ({_seen(config)}) has no labels. Remove it.")
    return None


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether the model answers with tokens and not with a label."""
    return any(item.endswith(_CAUSAL) for item in _architectures(config))


def has_answer_head(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    """Whether the model is loaded with a head that gives tokens.

    Recipes with a prompt serve models with such a head, and the same models converted to a single label.
    """
    return recipe.kind is Kind.PROMPT and is_causal(config)


def takes_prompt(config: Mapping[str, Any]) -> bool:
    """Whether the recipe that may serve this model has a prompt with an instruction."""
    return any(recipe.uses_instruct and _serves(recipe, config) for recipe in RECIPES.values())


def _no_evidence(able: Sequence[Recipe], config: Mapping[str, Any], model: str) -> str:
    known_as = f"{model} {config.get('_name_or_path') or ''}"
    other = re.search(_OTHER_FAMILIES, known_as, re.IGNORECASE)
    if other:
        return (
            f"The model ({_seen(config)}) seems to be a {other[0]}, which has a prompt of its own that no recipe for "
            "this class has. With another prompt its scores would be near random without an error."
        )
    named = [recipe for recipe in able if recipe.name in known_as.lower()]
    settings = " or ".join(f"model.recipe={recipe.name}" for recipe in named or able)
    return (
        f"The model ({_seen(config)}) may or may not be trained for a prompt template that is known here: neither its "
        "name nor its files say so (the hub id of the vendor, or a template of its own for a query and a document). "
        f"With a wrong template its scores would be near random without an error. If it was, set {settings}."
    )


def _unknown_family(folder: Path, config: Mapping[str, Any]) -> str:
    known = "; ".join(f"{recipe.name} ({_served(recipe)})" for recipe in RECIPES.values())
    if not config.get("model_type"):
        reason = (
            'Its config.json has no model_type. If its source has none either, add "model_type": "bert" for a BERT.'
        )
    elif known_reason := reason_of_class(_architectures(config)):
        reason = known_reason
    elif is_causal(config):
        reason = "It is a generative model, which is scored through a prompt template, and no recipe has its."
    elif is_chain(folder):
        reason = "Its head is a chain of modules on an encoder that was not compared with sentence-transformers here."
    elif not any(item.endswith(_SEQUENCE_CLASSIFICATION) for item in _architectures(config)):
        reason = "It has no sequence-classification head: an embedding or language model is not a reranker."
    elif type_reason := reason_of_type(config):
        reason = type_reason
    elif _is_plain_encoder(config):
        reason = "It is an encoder of a family that was not compared with plain transformers here, so it is not run."
    else:
        reason = "Without the family's template its scores would be near random, so none is guessed."
    return f"No recipe serves this model ({_seen(config)}). {reason} Known: {known}."


def _is_plain_encoder(config: Mapping[str, Any]) -> bool:
    """Whether transformers knows the family as one that fills in masked words, which reads pairs as they are."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.get("model_type") in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _seen(config: Mapping[str, Any]) -> str:
    architectures = ", ".join(_architectures(config)) or "none"
    return f"model_type={config.get('model_type')!r}, architectures: {architectures}"


def _architectures(config: Mapping[str, Any]) -> list[str]:
    return [str(item) for item in config.get("architectures") or []]
