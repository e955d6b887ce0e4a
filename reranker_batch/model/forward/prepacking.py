"""Linear layers of a CPU model in the layout that oneDNN computes in, with the activation behind them in the same step.

torch lays a weight out anew in every call, or leaves float32 to a library that is slower on many machines. The
operators are those that torch's own compiler emits for frozen models; where one is missing, all stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

_ACTIVATED = (("dense", "intermediate_act_fn"), ("lin1", "activation"))
"""Attributes of transformers' feed-forward modules: a linear layer, and the activation that follows it."""


class PrepackedLinear(nn.Module):
    """`activation(x @ weight.T + bias)`; it is for inference, and is neither saved nor moved."""

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self._bias = linear.bias
        self._activation = activation
        self._algorithm = "none" if activation == "gelu" else ""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self._packed, self._bias, self._activation, [], self._algorithm
        )
        return out

    def unpack(self) -> nn.Linear:
        """The layer that this one was made from, without its activation and with the same bits."""
        linear = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        linear.weight = nn.Parameter(self._packed.to_dense(), requires_grad=False)
        linear.bias = self._bias
        return linear


@dataclass(frozen=True)
class Prepacking:
    """What `prepack` replaced in a model."""

    activations: list[tuple[nn.Module, str, nn.Module]] = field(default_factory=list)
    linears: list[tuple[nn.Module, str]] = field(default_factory=list)

    def release(self) -> None:
        """Give the model back as it was."""
        for parent, name in self.linears:
            setattr(parent, name, getattr(parent, name).unpack())
        for parent, name, activation in self.activations:
            setattr(parent, name, activation)


def prepack(model: PreTrainedModel) -> Prepacking | None:
    """Replace the linear layers of the encoder in place; None where this machine or precision does not allow it."""
    if not _can_prepack(model.dtype):
        return None
    done = Prepacking()
    for module in list(model.base_model.modules()):
        activated = {dense: act for dense, act in _ACTIVATED if _is_exact_gelu(getattr(module, act, None))}
        for name, child in list(module.named_children()):
            if type(child) is not nn.Linear:
                continue
            if name in activated:
                done.activations.append((module, activated[name], getattr(module, activated[name])))
                setattr(module, activated[name], nn.Identity())
            setattr(module, name, PrepackedLinear(child, "gelu" if name in activated else "none"))
            done.linears.append((module, name))
    return done


def _can_prepack(dtype: torch.dtype) -> bool:
    ops: Any = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(ops, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    if dtype == torch.float16:
        return bool(ops._is_mkldnn_fp16_supported())
    return dtype == torch.float32


def _is_exact_gelu(activation: Any) -> bool:
    return type(activation).__name__ == "GELUActivation" and not getattr(activation, "use_gelu_python", False)
