"""Positions by rotation whose angles depend on the longest pair of a micro-batch, and learned ones of unknown kinds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError

_TWO_TABLES = ("longrope", "su")
_LEARNED = frozenset(
    {
        "albert",
        "bert",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
"""Types whose classes add a learned vector for each position, and once could do otherwise."""


def require_learned_positions(config: Mapping[str, Any], *, name: str) -> None:
    """Refuse positions that the class of the model does not compute.

    Raises:
        ModelError: config.json asks for them.
    """
    kind = config.get("position_embedding_type")
    if config.get("model_type") in _LEARNED and kind not in (None, "absolute"):
        raise ModelError(
            f"Model {name} was trained with position_embedding_type={kind!r}, which the {config['model_type']} of "
            "transformers does not compute: its scores would be wrong without an error. Use a model with absolute "
            "positions."
        )


def require_own_positions(folder: Path, config: Mapping[str, Any], max_pair_tokens: int) -> None:
    """Refuse rotations that are others for all pairs of a micro-batch once one of them is long.

    Raises:
        ModelError: Pairs of `max_pair_tokens` are as long as that; names the setting that keeps them shorter.
    """
    for rope in _rotations(config):
        short = rope.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
        if (
            rope.get("rope_type", rope.get("type")) in _TWO_TABLES
            and isinstance(short, int)
            and short < max_pair_tokens
        ):
            raise ModelError(
                f"{folder / 'config.json'} has rotary positions of the type longrope, which turn otherwise for a whole "
                f"micro-batch if one of its pairs is longer than {short} tokens: scores would depend on the other "
                f'pairs. Set "model_max_length": {short} in tokenizer_config.json to score all pairs as short ones.'
            )


def _rotations(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The settings of all rotations: transformers may have those of each type of layer."""
    for key in ("rope_parameters", "rope_scaling"):
        settings = config.get(key)
        if isinstance(settings, Mapping):
            yield settings
            yield from (item for item in settings.values() if isinstance(item, Mapping))
