"""Run a model of half precision in float32 for a while, without its weights in float32 all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Let the model compute in float32; afterwards its weights are the very tensors that they were.

    The weights of a layer are in float32 while it is called, those outside of the layers all the time.
    """
    layers = list(_layers(model))
    of_layers = {id(tensor) for layer in layers for tensor in _narrow(layer)}
    with ExitStack() as stack:
        others = _Widened(tensor for tensor in _narrow(model) if id(tensor) not in of_layers)
        others.enter()
        stack.callback(others.leave)
        for layer in layers:
            widened = _Widened(_narrow(layer))
            stack.callback(layer.register_forward_pre_hook(widened.enter).remove)
            stack.callback(layer.register_forward_hook(widened.leave, always_call=True).remove)
        yield


class _Widened:
    """Tensors that are float32 from `enter` to `leave`, which may be hooks of a module and may be nested."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._tensors = list(tensors)
        self._kept: list[torch.Tensor] = []
        self._calls = 0

    def enter(self, *_: Any) -> None:
        self._calls += 1
        if self._calls == 1:
            self._kept = [tensor.data for tensor in self._tensors]
            for tensor in self._tensors:
                tensor.data = tensor.data.float()

    def leave(self, *_: Any) -> None:
        self._calls -= 1
        if self._calls == 0:
            for tensor, kept in zip(self._tensors, self._kept, strict=True):
                tensor.data = kept
            self._kept = []


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of every list of modules, but not those of lists within them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)


def _narrow(module: nn.Module) -> list[torch.Tensor]:
    tensors = chain(module.parameters(), module.buffers())
    return [tensor for tensor in tensors if tensor.is_floating_point() and tensor.element_size() < 4]
