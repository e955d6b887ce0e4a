"""Which recipe serves a model: from its config, its tokenizer's and sentence-transformers' files, and its name."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.recipes.cross_encoder import CROSS_ENCODER
from reranker_batch.model.recipes.gemma import BGE_RERANKER_V2_GEMMA
from reranker_batch.model.recipes.instructs import find_instruct
from reranker_batch.model.recipes.mxbai import MXBAI_RERANK_BASE_V2, MXBAI_RERANK_LARGE_V2
from reranker_batch.model.recipes.qwen3 import QWEN3_RERANKER
from reranker_batch.model.recipes.recipe import Recipe

_LOG = logging.getLogger(__name__)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        CROSS_ENCODER,
        QWEN3_RERANKER,
        MXBAI_RERANK_BASE_V2,
        MXBAI_RERANK_LARGE_V2,
        BGE_RERANKER_V2_GEMMA,
    )
}

_SEQUENCE_CLASSIFICATION = "ForSequenceClassification"
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_FILES_WITH_TEMPLATES = (
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)


@dataclass(frozen=True)
class Detected:
    """The recipe of a model, and why it is that one, for the log and the manifest."""

    recipe: Recipe
    reason: str
    notes: tuple[str, ...] = ()
    """What the repository's own files say of the use of its scores."""


def detect_recipe(config: Mapping[str, Any], name: str | None = "auto") -> Recipe:
    """The recipe for the model that `config` (its config.json) describes; `name` chooses one outright.

    Raises:
        ModelError: The family is not known, is not scored by a single-label head, or does not fit `name`.
    """
    return _detect(config, name, model="", texts=()).recipe


def detect_model(folder: Path, config: Mapping[str, Any], *, model: str, name: str | None = "auto") -> Detected:
    """The recipe for a model folder. `model` is the name it was asked for by, `name` a recipe chosen outright.

    Where sentence-transformers' settings in the folder name a default prompt, it is the recipe's instruction.

    Raises:
        ModelError: As `detect_recipe`; or nothing but a guess would tell the family.
    """
    known_as = f"{model} {config.get('_name_or_path') or ''}"
    found = _detect(config, name, model=known_as, texts=_template_texts(folder))
    return _with_own_settings(found, folder, config)


def choose_recipe(
    folder: Path, config: Mapping[str, Any], *, model: str, name: str | None = "auto", instruct: str | None = None
) -> Detected:
    """The recipe for a model folder with the instruction asked for, by name or word for word; says in the log which.

    Raises:
        ModelError: As `detect_model`.
    """
    found = detect_model(folder, config, model=model, name=name)
    if instruct and not found.recipe.uses_instruct:
        _LOG.warning("model.instruct is ignored: models of the recipe %s take no instruction", found.recipe.name)
    elif instruct:
        found = replace(found, recipe=found.recipe.with_instruct(find_instruct(instruct)))
    _LOG.info("recipe of %s: %s (%s)%s", model, found.recipe.name, found.reason, "".join(f"; {n}" for n in found.notes))
    return found


def _with_own_settings(found: Detected, folder: Path, config: Mapping[str, Any]) -> Detected:
    recipe, notes = found.recipe, []
    activation = own_activation(config)
    if activation and activation != "Sigmoid":
        notes.append(f"the repository's own activation is {activation}; relevance_score is a sigmoid all the same")
    prompt = default_prompt(folder)
    if prompt and recipe.uses_instruct:
        recipe = recipe.with_instruct(prompt)
        notes.append(f"the repository's default prompt is the instruction: {prompt!r}")
    return replace(found, recipe=recipe, notes=tuple(notes))


def own_activation(config: Mapping[str, Any]) -> str | None:
    """The activation that sentence-transformers would apply, by its short name."""
    settings = config.get("sentence_transformers") or {}
    path = settings.get("activation_fn") or config.get("sbert_ce_default_activation_function")
    return str(path).rpartition(".")[2] if path else None


def default_prompt(folder: Path) -> str | None:
    """The text that sentence-transformers would put before the texts, or into the template."""
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return None
    settings = json.loads(path.read_text(encoding="utf-8"))
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"))
    return str(prompt) if prompt else None


def _template_texts(folder: Path) -> list[str]:
    """The files of a repository in which its family's template may stand."""
    paths = [path for pattern in _FILES_WITH_TEMPLATES for path in sorted(folder.glob(pattern))]
    return [_readable(path) for path in paths]


def _readable(path: Path) -> str:
    """The text of a file, with the escapes of JSON undone."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return "\n".join(_strings(json.loads(text)))
    except ValueError:
        return text


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)


def _detect(config: Mapping[str, Any], name: str | None, *, model: str, texts: Sequence[str]) -> Detected:
    if name in (None, "auto"):
        found = _only_one_serving(config, model, texts)
    else:
        found = Detected(_named(str(name)), f"{_seen(config)}, named by model.recipe")
        _require_fit(found.recipe, config)
    if not is_causal(config):
        _require_single_label(config)
    return found


def _named(name: str) -> Recipe:
    if name not in RECIPES:
        raise ModelError(f"model.recipe={name!r} is not a recipe. Known: auto, {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]


def _only_one_serving(config: Mapping[str, Any], model: str, texts: Sequence[str]) -> Detected:
    able = [recipe for recipe in RECIPES.values() if _serves(recipe, config)]
    found = [Detected(recipe, reason) for recipe in able if (reason := _reason(recipe, config, model, texts))]
    if len(found) > 1:
        names = ", ".join(sorted(item.recipe.name for item in found))
        raise ModelError(f"The model fits several recipes: {names}. Set model.recipe to the one it was trained for.")
    if found:
        return found[0]
    raise ModelError(_no_evidence(able, config) if able else _unknown_family(config))


def _reason(recipe: Recipe, config: Mapping[str, Any], model: str, texts: Sequence[str]) -> str | None:
    """Why it is this one of the recipes that could run the model; None where only a guess would say so."""
    if recipe.prompt is None:
        return f"{_seen(config)}, whose template is the tokenizer's own pair encoding"
    by_name = re.search(recipe.repository_names or "(?!)", model, re.IGNORECASE)
    if by_name:
        return f"{_seen(config)}, named {by_name[0]}"
    if recipe.evidence and any(recipe.evidence in text for text in texts):
        return f"{_seen(config)}, and the repository's own files hold its template"
    return None


def _serves(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    is_of_size = recipe.hidden_sizes is None or config.get("hidden_size") in recipe.hidden_sizes
    return config.get("model_type") in recipe.model_types and is_of_size and _has_architecture(recipe, config)


def _has_architecture(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    architectures = _architectures(config)
    if not architectures:
        return recipe.prompt is None
    return any(item.endswith(recipe.architectures) for item in architectures)


def _require_fit(recipe: Recipe, config: Mapping[str, Any]) -> None:
    # A model with code of its own has a model_type that nobody can list; naming the recipe vouches for it.
    own_code = config.get("auto_map") or {}
    is_own_code = any(f"AutoModel{architecture}" in own_code for architecture in recipe.architectures)
    fits = config.get("model_type") in recipe.model_types
    if not _has_architecture(recipe, config) or not (is_own_code or fits):
        raise ModelError(
            f"model.recipe={recipe.name!r} does not serve this model ({_seen(config)}). It serves {_served(recipe)}."
        )


def _served(recipe: Recipe) -> str:
    return f"{', '.join(sorted(recipe.model_types))} as *{' or *'.join(recipe.architectures)}"


def _require_single_label(config: Mapping[str, Any]) -> None:
    labels = num_labels(config)
    if labels != 1:
        raise ModelError(
            f"The model has {labels} labels ({_seen(config)}), and a reranker has one: which of them "
            "would be the relevance is unknown. Use a model trained with num_labels=1."
        )


def num_labels(config: Mapping[str, Any]) -> int:
    """Labels of the head: as transformers reads a config.json, which means two where nothing is said."""
    id2label = config.get("id2label")
    if id2label:
        return len(id2label)
    return int(config.get("num_labels") or 2)


def is_causal(config: Mapping[str, Any]) -> bool:
    """Whether the model answers with tokens and not with a label."""
    return any(item.endswith(_CAUSAL) for item in _architectures(config))


def takes_prompt(config: Mapping[str, Any]) -> bool:
    """Whether the recipe that may serve this model has a prompt with an instruction."""
    return any(recipe.uses_instruct and _serves(recipe, config) for recipe in RECIPES.values())


def _no_evidence(able: Sequence[Recipe], config: Mapping[str, Any]) -> str:
    settings = " or ".join(f"model.recipe={recipe.name}" for recipe in able)
    return (
        f"The model ({_seen(config)}) may or may not be trained for a prompt template that is known here: neither its "
        "name nor its files say so, and with a wrong template its scores would be near random without an error. "
        f"If it was, set {settings}."
    )


def _unknown_family(config: Mapping[str, Any]) -> str:
    known = "; ".join(f"{recipe.name} ({_served(recipe)})" for recipe in RECIPES.values())
    if is_causal(config):
        reason = "It is a generative model, which is scored through a prompt template, and no recipe has its."
    elif not any(item.endswith(_SEQUENCE_CLASSIFICATION) for item in _architectures(config)):
        reason = "It has no sequence-classification head: an embedding or language model is not a reranker."
    else:
        reason = "Without the family's template its scores would be near random, so none is guessed."
    return f"No recipe serves this model ({_seen(config)}). {reason} Known: {known}."


def _seen(config: Mapping[str, Any]) -> str:
    architectures = ", ".join(_architectures(config)) or "none"
    return f"model_type={config.get('model_type')!r}, architectures: {architectures}"


def _architectures(config: Mapping[str, Any]) -> list[str]:
    return [str(item) for item in config.get("architectures") or []]
