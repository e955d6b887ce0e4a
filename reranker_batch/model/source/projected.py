"""A language model and the projector that makes vectors of its states, as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.weights import weight_files, weight_shapes

PROJECTOR = ("projector.0.weight", "projector.2.weight")
"""Two linear layers without bias, and a ReLU between them."""


class ProjectedModel(PreTrainedModel):
    """The language model, and a projector in float32, whatever precision the model has."""

    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, model: PreTrainedModel, projector: nn.Module) -> None:
        super().__init__(model.config)
        self.model = cast(Any, model)
        self.projector = projector

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """That of the language model, which has all the attention."""
        self.model.set_attn_implementation(*args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.model.get_input_embeddings()
        return embeddings

    def forward(self, input_ids: torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Vectors of all places, in float32."""
        states = self.model(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state
        vectors: torch.Tensor = self.projector(states.float())
        return vectors


def with_projector(folder: Path, model: PreTrainedModel) -> ProjectedModel:
    """The language model with the projector of its folder.

    Raises:
        ModelError: The weights of the projector are missing, or are not those of two layers that follow the model.
    """
    shapes = weight_shapes(folder)
    _require_projector(folder, [shapes.get(name) for name in PROJECTOR], int(model.config.hidden_size))
    weights: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            present = set(PROJECTOR) & set(file.keys())
            weights |= {name: file.get_tensor(name).float() for name in present}
    first, last = (weights[name] for name in PROJECTOR)
    return ProjectedModel(model, nn.Sequential(_linear(first), nn.ReLU(), _linear(last)))


def _require_projector(folder: Path, shapes: list[tuple[int, ...] | None], hidden_size: int) -> None:
    missing = [name for name, shape in zip(PROJECTOR, shapes, strict=True) if shape is None]
    if missing:
        raise ModelError(
            f"The weights in {folder} have no {' and no '.join(missing)}, which make the vectors of query and "
            "documents, so the model would score at random. Copy the whole model from its source."
        )
    first, last = (shape or () for shape in shapes)
    if not (len(first) == len(last) == 2 and first[1] == hidden_size and last[1] == first[0]):
        raise ModelError(
            f"The projector in {folder} has weights of the shapes {first} ({PROJECTOR[0]}) and {last} ({PROJECTOR[1]}),"
            f" which cannot follow states of {hidden_size} numbers (hidden_size in config.json). Copy the whole model "
            "from its source."
        )


def _linear(weight: torch.Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.load_state_dict({"weight": weight}, assign=True)
    return linear
