"""Which family a model belongs to, and so how (query, document) becomes a score.

A recipe is data. Adding a family is adding an entry to the registry; what several families share stands
once in the code that a recipe names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reranker_batch.errors import ModelError

_SEQUENCE_CLASSIFICATION = "ForSequenceClassification"
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


@dataclass(frozen=True)
class Recipe:
    """How one family of models is scored. `relevance_score` is sigmoid(logit - logit_shift)."""

    name: str
    description: str
    source: str
    version: int
    """Raised whenever the same model and texts would give other logits than before."""
    model_types: frozenset[str]
    """`model_type` of the config.json files this recipe serves."""
    architecture: str
    """Ending of the class names in `architectures`."""
    logit_shift: float = 0.0
    uses_instruct: bool = False
    types_with_positions_after_padding: frozenset[str] = frozenset()
    """Model types whose first position is `pad_token_id + 1`, so that many positions are never used."""

    def max_positions(self, config: Mapping[str, Any]) -> int | None:
        """Tokens that the model's positions reach to, or None if the config sets no maximum."""
        positions = config.get("max_position_embeddings")
        if positions is None:
            return None
        if config.get("model_type") in self.types_with_positions_after_padding:
            # XLM-R says 8194 and reads 8192 (FlagEmbedding #990): positions count from padding_idx + 1.
            padding_id = config.get("pad_token_id")
            return int(positions) - (1 if padding_id is None else int(padding_id)) - 1
        return int(positions)


CROSS_ENCODER = Recipe(
    name="cross-encoder",
    description="Encoder that reads query and document as one pair; a head on top gives one logit.",
    source="https://huggingface.co/docs/transformers/en/model_doc/auto (AutoModelForSequenceClassification); "
    "https://github.com/FlagOpen/FlagEmbedding (bge-reranker); https://sbert.net/docs/cross_encoder",
    version=1,
    model_types=frozenset(
        {
            "bert",
            "camembert",
            "deberta-v2",
            "distilbert",
            "electra",
            "gte",
            "modernbert",
            "mpnet",
            "roberta",
            "xlm-roberta",
        }
    ),
    architecture=_SEQUENCE_CLASSIFICATION,
    types_with_positions_after_padding=frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"}),
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (CROSS_ENCODER,)}


def detect_recipe(config: Mapping[str, Any], name: str | None = "auto") -> Recipe:
    """The recipe for the model that `config` (its config.json) describes; `name` chooses one outright.

    Raises:
        ModelError: The family is not known, is not scored by a single-label head, or does not fit `name`.
    """
    if name in (None, "auto"):
        recipe = _only_one_serving(config)
    else:
        recipe = _named(str(name))
        _require_fit(recipe, config)
    _require_single_label(config)
    return recipe


def _named(name: str) -> Recipe:
    if name not in RECIPES:
        raise ModelError(f"model.recipe={name!r} is not a recipe. Known: auto, {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]


def _only_one_serving(config: Mapping[str, Any]) -> Recipe:
    found = [recipe for recipe in RECIPES.values() if _serves(recipe, config)]
    if not found:
        raise ModelError(_unknown_family(config))
    if len(found) > 1:
        names = ", ".join(sorted(recipe.name for recipe in found))
        raise ModelError(f"The model fits several recipes: {names}. Set model.recipe to the one it was trained for.")
    return found[0]


def _serves(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in recipe.model_types and _has_architecture(recipe, config)


def _has_architecture(recipe: Recipe, config: Mapping[str, Any]) -> bool:
    architectures = _architectures(config)
    return not architectures or any(item.endswith(recipe.architecture) for item in architectures)


def _require_fit(recipe: Recipe, config: Mapping[str, Any]) -> None:
    # A model with code of its own has a model_type that nobody can list; naming the recipe vouches for it.
    is_own_code = f"AutoModel{recipe.architecture}" in (config.get("auto_map") or {})
    if not _has_architecture(recipe, config) or not (is_own_code or _serves(recipe, config)):
        raise ModelError(
            f"model.recipe={recipe.name!r} does not serve this model ({_seen(config)}). "
            f"It serves {', '.join(sorted(recipe.model_types))} as *{recipe.architecture}."
        )


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


def _unknown_family(config: Mapping[str, Any]) -> str:
    known = "; ".join(
        f"{recipe.name} ({', '.join(sorted(recipe.model_types))} as *{recipe.architecture})"
        for recipe in RECIPES.values()
    )
    if any(item.endswith(_CAUSAL) for item in _architectures(config)):
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
