"""Model families and how each is scored: a small file a family, and the choice among them."""

from __future__ import annotations

from reranker_batch.model.recipes.cross_encoder import CROSS_ENCODER
from reranker_batch.model.recipes.detection import (
    RECIPES,
    Detected,
    choose_recipe,
    has_answer_head,
    is_causal,
    takes_prompt,
)
from reranker_batch.model.recipes.instructs import INSTRUCTS, find_instruct
from reranker_batch.model.recipes.labels import label_names, num_labels
from reranker_batch.model.recipes.list_prompt import ListPrompt
from reranker_batch.model.recipes.recipe import Kind, Piece, Prompt, Recipe

__all__ = [
    "CROSS_ENCODER",
    "INSTRUCTS",
    "RECIPES",
    "Detected",
    "Kind",
    "ListPrompt",
    "Piece",
    "Prompt",
    "Recipe",
    "choose_recipe",
    "find_instruct",
    "has_answer_head",
    "is_causal",
    "label_names",
    "num_labels",
    "takes_prompt",
]
