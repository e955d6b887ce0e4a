"""An encoder and the head that a chain of modules describes, as one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.json_files import require_content
from reranker_batch.model.folder.module_chain import DenseLayer, NormLayer, read_chain

_WEIGHTS = "model.safetensors"


class ChainedModel(PreTrainedModel):
    """The encoder, the pooling that `config.classifier_pooling` names, and the head on top of it."""

    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, encoder: PreTrainedModel, head: nn.Module) -> None:
        super().__init__(encoder.config)
        self.encoder = encoder
        self.head = head

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """That of the encoder, which has all the attention."""
        self.encoder.set_attn_implementation(*args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any
    ) -> SequenceClassifierOutput:
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        pooled = _mean(states, attention_mask) if self.config.classifier_pooling == "mean" else states[:, 0]
        return SequenceClassifierOutput(logits=self.head(pooled))


def _mean(states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The mean over the tokens that are no padding; sums are in float32 at least."""
    exact = states if states.dtype == torch.float64 else states.float()
    if attention_mask is None:
        return exact.mean(1).to(states.dtype)
    weights = attention_mask[..., None].to(exact.dtype)
    return ((exact * weights).sum(1) / weights.sum(1)).to(states.dtype)


def with_chain(folder: Path, encoder: PreTrainedModel) -> ChainedModel:
    """The encoder with the head of its folder, in the encoder's precision.

    Raises:
        ModelError: The weights of a module are missing, or of another shape than its settings say.
    """
    chain = read_chain(folder)
    encoder.config.classifier_pooling = chain.pooling
    layers = [
        module
        for layer in chain.layers
        for module in (_dense(folder, layer) if isinstance(layer, DenseLayer) else [_norm(folder, layer)])
    ]
    return ChainedModel(encoder, nn.Sequential(*layers).to(encoder.dtype))


def _dense(folder: Path, layer: DenseLayer) -> list[nn.Module]:
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (layer.outputs, layer.inputs)}
    if layer.has_bias:
        shapes["linear.bias"] = (layer.outputs,)
    weights = _read(folder / layer.place, shapes)
    linear = nn.Linear(layer.inputs, layer.outputs, bias=layer.has_bias, device="meta")
    activation: nn.Module = getattr(nn, layer.activation)()
    return [_filled(linear, weights), activation]


def _norm(folder: Path, layer: NormLayer) -> nn.Module:
    weights = _read(folder / layer.place, {"norm.weight": (layer.size,), "norm.bias": (layer.size,)})
    return _filled(nn.LayerNorm(layer.size, device="meta"), weights)


def _filled(module: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    module.load_state_dict({name.rpartition(".")[2]: weight for name, weight in weights.items()}, assign=True)
    return module


def _read(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """The weights of a module, which are these and no others."""
    path = folder / _WEIGHTS
    if not path.is_file():
        raise ModelError(f"{path} is missing, so the head would have no weights. Copy it from the source.")
    require_content(path)
    try:
        weights = load_file(path)
    except Exception as error:  # The library's own class, and those of the operating system.
        raise ModelError(
            f"{path} is not a whole safetensors file: {type(error).__name__}: {error}. Copy it again."
        ) from error
    present = {name: tuple(weight.shape) for name, weight in weights.items()}
    if present != shapes:
        raise ModelError(f"{path} has the weights {present}, and config.json next to it wants {shapes}. Copy it again.")
    return weights
