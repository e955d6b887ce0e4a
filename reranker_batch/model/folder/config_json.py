"""config.json of a model: read, checked, and in the words of transformers' own class where that computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.json_files import read_object
from reranker_batch.model.folder.native import as_native

LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
SIZES = ("hidden_size", "dim", "d_model", "intermediate_size", "hidden_dim", "vocab_size", "embedding_size")
_MAX_LAYERS = 1_000
_MAX_SIZE = 1 << 24
_MAX_LABELS = 10_000
_LIMITS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(LAYERS, (1, _MAX_LAYERS)),
    **dict.fromkeys(SIZES, (1, _MAX_SIZE)),
    **dict.fromkeys(("num_attention_heads", "n_heads", "num_key_value_heads", "head_dim"), (1, 1 << 16)),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), (1, _MAX_SIZE)),
    "type_vocab_size": (0, 1 << 16),
    "num_labels": (0, _MAX_LABELS),
    "pad_token_id": (-1, _MAX_SIZE),
    "position_buckets": (-1, _MAX_SIZE),
    "max_relative_positions": (-1, _MAX_SIZE),
    "pooler_hidden_size": (1, _MAX_SIZE),
}
"""Far above any published model, and low enough that a class built from them does not fill the memory."""
_KINDS: Mapping[str, type] = {
    "model_type": str,
    "architectures": list,
    "auto_map": dict,
    "id2label": dict,
    "label2id": dict,
    "layer_types": list,
    "sentence_transformers": dict,
    "quantization_config": dict,
    "position_embedding_type": str,
    "rope_scaling": dict,
    "rope_parameters": dict,
    "sbert_ce_default_activation_function": str,
}


def read_config(folder: Path, *, name: str | None = None) -> dict[str, Any]:
    """The content of the folder's config.json, in the words of transformers' own class where that computes the same.

    Raises:
        ModelError: There is none, or its values are not those of a model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"Model {name or folder} has no config.json in {folder}, so it is not a model folder.")
    config = read_object(path)
    _require_kinds(path, config)
    _require_limits(path, config)
    try:
        native = as_native(config)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} lacks a setting that its model_type needs, or has one that does not fit: "
            f"{type(error).__name__}: {error}. Copy the model again."
        ) from error
    _require_limits(path, native)
    return native


def _require_kinds(path: Path, config: Mapping[str, Any]) -> None:
    for key, kind in _KINDS.items():
        value = config.get(key)
        if value is not None and not isinstance(value, kind):
            raise _wrong(path, key, value, f"not of type {kind.__name__}")
    labels = config.get("id2label") or {}
    if len(labels) > _MAX_LABELS:
        raise _wrong(path, "id2label", f"{len(labels)} labels", f"more than {_MAX_LABELS:,}")


def _require_limits(path: Path, config: Mapping[str, Any]) -> None:
    for key, (least, most) in _LIMITS.items():
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(path, key, value, "not a whole number")
        if not least <= value <= most:
            raise _wrong(path, key, value, f"not between {least} and {most:,}")


def _wrong(path: Path, key: str, value: object, reason: str) -> ModelError:
    return ModelError(f"{path} says {key}: {str(value)[:60]}, which is {reason}. Copy the model again.")
