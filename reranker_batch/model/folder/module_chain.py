"""modules.json of sentence-transformers: the modules of a folder, and a head that is made of several of them.

Such a head is an encoder's pooling, then linear layers and norms, of which the last gives the score. Everything that a
module may be set to is listed here: what is not is refused by name, because it would change a score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.json_files import read_array, read_optional_object
from reranker_batch.model.folder.st_settings import module_settings

_OWN = re.compile(r"sentence_transformers\.(?:\w+\.)*(\w+)")
_PLACE = re.compile(r"\d+_\w+")
_LOGIT_SCORE = ["Transformer", "LogitScore"]
_ACTIVATIONS = {
    f"torch.nn.{place}{name}": name
    for home, names in {"modules.activation.": ("GELU", "Tanh", "ReLU"), "modules.linear.": ("Identity",)}.items()
    for name in names
    for place in (home, "")
}
_POOLINGS = ("cls", "mean")
_OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SIZE_OF_POOLING = ("embedding_dimension", "word_embedding_dimension")
_DENSE = ("in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name")
_STATES, _POOLED, _SCORES = "token_embeddings", "sentence_embedding", "scores"


@dataclass(frozen=True)
class Module:
    """A row of modules.json: the class by its short name, and the folder of its files within the model's."""

    kind: str
    place: str


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer and the activation after it, by the name of its class in torch.nn."""

    place: str
    inputs: int
    outputs: int
    has_bias: bool
    activation: str


@dataclass(frozen=True)
class NormLayer:
    """A layer norm."""

    place: str
    size: int

    @property
    def inputs(self) -> int:
        return self.size

    @property
    def outputs(self) -> int:
        return self.size


@dataclass(frozen=True)
class ModuleChain:
    """What follows the encoder: the pooling of its hidden states, and layers of which the last has one output."""

    pooling: str
    layers: tuple[DenseLayer | NormLayer, ...]


def read_modules(folder: Path) -> list[Module]:
    """The modules of a folder, in order; none where there is no modules.json.

    Raises:
        ModelError: It is no list of modules, or names one that is not of sentence-transformers.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return []
    rows = read_array(path)
    if not all(isinstance(row, dict) and isinstance(row.get("path", ""), str) for row in rows):
        raise ModelError(f"{path} is no list of modules. Copy the model again.")
    return [_module(path, row) for row in rows]


def _module(path: Path, row: Mapping[str, Any]) -> Module:
    kind = str(row.get("type"))
    own = _OWN.fullmatch(kind)
    if own is None:
        raise ModelError(
            f"{path} names the module {kind[:100]!r}, which is code of the model's authors and not of "
            "sentence-transformers. No such code is run, and what it does is unknown here."
        )
    return Module(own[1], str(row.get("path", "")))


def is_chain(folder: Path) -> bool:
    """Whether a folder's head is made of several modules.

    Raises:
        ModelError: modules.json is damaged.
    """
    kinds = [module.kind for module in read_modules(folder)]
    return len(kinds) > 1 and kinds != _LOGIT_SCORE


def read_chain(folder: Path) -> ModuleChain:
    """The head of a folder for which `is_chain` holds.

    Raises:
        ModelError: It has a module, an order or a setting that is not in the list; names it.
    """
    path, modules = folder / "modules.json", read_modules(folder)
    kinds = [module.kind for module in modules]
    if kinds[-1] != "Dense":
        raise ModelError(
            f"{path} has the modules {', '.join(kinds)}, the last of which makes no score of a pair: this is an "
            "embedding model and not a reranker."
        )
    for kind in kinds:
        if kind not in ("Transformer", "Pooling", "Dense", "LayerNorm"):
            raise ModelError(
                f"{path} has the module {kind} ({', '.join(kinds)}), which is not served. A chain may have "
                "Transformer, Pooling, Dense and LayerNorm."
            )
    if kinds[:2] != ["Transformer", "Pooling"] or not {*kinds[2:]} <= {"Dense", "LayerNorm"}:
        raise ModelError(
            f"{path} has the modules {', '.join(kinds)}. Served are a Transformer, then Pooling, then Dense and "
            "LayerNorm in any order, a Dense last."
        )
    _require_states(folder, modules[0])
    pooling, size = _pooling(folder, modules[1])
    layers = [
        _dense(folder, module, is_last=module is modules[-1]) if module.kind == "Dense" else _norm(folder, module)
        for module in modules[2:]
    ]
    _require_one_width(folder, size, layers)
    return ModuleChain(pooling, tuple(layers))


def _require_one_width(folder: Path, size: int, layers: Sequence[DenseLayer | NormLayer]) -> None:
    for layer in layers:
        if layer.inputs != size:
            raise ModelError(f"{folder / layer.place} takes {layer.inputs} numbers, and {size} come before it.")
        size = layer.outputs


def _require_states(folder: Path, module: Module) -> None:
    """The encoder gives its last hidden states, as is the default."""
    if module.place:
        raise ModelError(f"{folder / 'modules.json'} has the path {module.place[:60]!r} for its Transformer, not ''.")
    states = module_settings(folder).states
    served = {
        "transformer_task": "feature-extraction",
        "module_output_name": _STATES,
        "method": "forward",
        "method_output_name": "last_hidden_state",
    }
    for name, value in states.items():
        if value not in (None, served[name]):
            raise _not_served(folder / "modules.json", f"a Transformer with {name}", value, served[name])


def _pooling(folder: Path, module: Module) -> tuple[str, int]:
    path, settings = _settings(folder, module)
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLINGS.items() if settings.get(key)] or ["mean"]
    mode = modes[0] if isinstance(modes, list) and len(modes) == 1 else modes
    if not isinstance(mode, str) or mode not in _POOLINGS:
        raise _not_served(path, "pooling_mode", mode, " or ".join(_POOLINGS))
    _require_known(path, settings, ("pooling_mode", "include_prompt", *_SIZE_OF_POOLING, *_OLD_POOLINGS))
    size = next((settings[name] for name in _SIZE_OF_POOLING if name in settings), None)
    return mode, _size(path, "embedding_dimension", size)


def _dense(folder: Path, module: Module, *, is_last: bool) -> DenseLayer:
    path, settings = _settings(folder, module)
    activation = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if activation not in _ACTIVATIONS:
        raise _not_served(path, "activation_function", activation, ", ".join(sorted({*_ACTIVATIONS.values()})))
    source = settings.get("module_input_name", _POOLED)
    target, wanted = settings.get("module_output_name") or source, _SCORES if is_last else _POOLED
    for name, value, served in (("module_input_name", source, _POOLED), ("module_output_name", target, wanted)):
        if value != served:
            raise _not_served(path, name, value, served)
    _require_known(path, settings, _DENSE)
    inputs, outputs = (_size(path, name, settings.get(name)) for name in ("in_features", "out_features"))
    if is_last and outputs != 1:
        raise _not_served(path, "out_features", outputs, "1, the score")
    return DenseLayer(module.place, inputs, outputs, bool(settings.get("bias", True)), _ACTIVATIONS[activation])


def _norm(folder: Path, module: Module) -> NormLayer:
    path, settings = _settings(folder, module)
    _require_known(path, settings, ("dimension",))
    return NormLayer(module.place, _size(path, "dimension", settings.get("dimension")))


def _settings(folder: Path, module: Module) -> tuple[Path, dict[str, Any]]:
    if not _PLACE.fullmatch(module.place):
        raise ModelError(
            f"{folder / 'modules.json'} has the path {module.place[:60]!r}, and a folder such as 2_Dense was expected."
        )
    path = folder / module.place / "config.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing, which modules.json names. Copy the model again.")
    return path, read_optional_object(path)


def _require_known(path: Path, settings: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name, value in settings.items():
        if name not in known and value:
            raise _not_served(path, name, value, "not set")


def _size(path: Path, name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 24:
        raise ModelError(f"{path} has {str(value)[:60]} as {name}. Copy the model again.")
    return value


def _not_served(path: Path, name: str, value: object, served: str) -> ModelError:
    return ModelError(f"{path} has {name} {str(value)[:100]!r}, which is not served. Served: {served}.")
