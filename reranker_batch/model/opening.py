"""A model as its settings name it: files, recipe, tokenizer and limits checked together. Loads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reranker_batch.config import LimitsConfig, ModelConfig
from reranker_batch.core.limits import RequestLimits, resolve_limits
from reranker_batch.errors import ConfigError
from reranker_batch.model.encoding.tokenizing import ModelPairEncoder, load_pair_encoder
from reranker_batch.model.recipes import Recipe, choose_recipe
from reranker_batch.model.source.files import ModelFiles, resolve_model

if TYPE_CHECKING:
    from reranker_batch.model.scorer import CrossEncoderScorer


@dataclass(frozen=True)
class OpenedModel:
    """What is known of a model before its weights are loaded."""

    config: ModelConfig
    files: ModelFiles
    recipe: Recipe
    recipe_reason: str
    encoder: ModelPairEncoder
    limits: RequestLimits
    max_batch_tokens: int | None
    """None lets the device decide."""

    def start_scorer(self) -> CrossEncoderScorer:
        """Load the weights and try them on this machine.

        Raises:
            ModelError: The model cannot be used; says what was seen and what to do.
        """
        from reranker_batch.model.checks.start import start_scorer  # imports torch, which a plan does not need

        return start_scorer(
            self.files.folder,
            recipe=self.recipe,
            longest_pair=self.limits.max_pair_tokens,
            max_batch_tokens=self.max_batch_tokens,
            dtype=self.config.dtype,
            device=self.config.device,
            trust_remote_code=self.config.trust_remote_code,
        )


def open_model(
    config: ModelConfig, limits: LimitsConfig, *, max_batch_tokens: int | None = None, with_weights: bool = True
) -> OpenedModel:
    """Find the files, choose the recipe, load the tokenizer and resolve the limits.

    Raises:
        ConfigError, ModelError: Something cannot be used as asked.
    """
    files = resolve_model(
        config.name,
        revision=config.revision,
        with_weights=with_weights,
        trust_remote_code=config.trust_remote_code,
    )
    detected = choose_recipe(
        files.folder, files.config(), model=files.name, name=config.recipe, instruct=config.instruct
    )
    encoder = load_pair_encoder(files.folder, recipe=detected.recipe, trust_remote_code=config.trust_remote_code)
    resolved = resolve_limits(
        limits.profile,
        limits.overrides(),
        model_max_pair_tokens=encoder.max_pair_tokens,
        num_special_tokens=encoder.num_special_tokens,
    )
    _require_budget_for_a_pair(max_batch_tokens, resolved)
    return OpenedModel(config, files, detected.recipe, detected.reason, encoder, resolved, max_batch_tokens)


def _require_budget_for_a_pair(budget: int | None, limits: RequestLimits) -> None:
    """One full pair always fits into a micro-batch."""
    longest = limits.max_pair_tokens or 0
    if budget is not None and budget < longest:
        raise ConfigError(
            f"batching.max_batch_tokens={budget} is below the {longest} tokens that one pair may have. "
            "Raise it or lower limits.max_pair_tokens."
        )
