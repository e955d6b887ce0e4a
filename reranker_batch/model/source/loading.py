"""Load a model's weights, and refuse what would give scores without meaning."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.folder.native import new_names
from reranker_batch.model.folder.weights import (
    changing,
    require_all_used,
    require_sizes,
    require_stored,
    some_of,
    weight_files,
)
from reranker_batch.model.quiet import quiet_loading
from reranker_batch.model.recipes import Kind, Recipe, has_answer_head
from reranker_batch.model.source.bidirectional import BidirectionalLlama
from reranker_batch.model.source.chained import with_chain
from reranker_batch.model.source.devices import precision_on
from reranker_batch.model.source.heads import fold_labels
from reranker_batch.model.source.projected import PROJECTOR, with_projector

logger = logging.getLogger(__name__)
_OWN_CLASSES = {"llama_bidirec": BidirectionalLlama}
"""For repositories of which transformers has the encoder and not the head."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def use_threads(threads: int) -> None:
    """Let torch compute on so many threads in this process; 0 leaves torch's own choice."""
    if threads:
        torch.set_num_threads(threads)


def choose_device(device: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:1`; `auto` takes a GPU where there is one.

    Raises:
        ModelError: Not a device, or not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ModelError(f"model.device={device!r} is not a device. Known: auto, cpu, cuda.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"model.device={device!r} is not on this machine, where torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs. Use auto or cpu, or give the replica a GPU."
        )
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision for a name; `auto` is bfloat16 on a GPU and float32 on a CPU.

    Raises:
        ModelError: Not a known precision.
    """
    precision = precision_on(device.type, dtype)
    if precision not in _DTYPES:
        raise ModelError(f"model.dtype={dtype!r} is not a precision. Known: auto, {', '.join(_DTYPES)}.")
    return _DTYPES[precision]


def load_model(
    folder: Path, *, recipe: Recipe, dtype: torch.dtype, device: torch.device, trust_remote_code: bool
) -> PreTrainedModel:
    """The model of a local folder in evaluation mode, every weight of it read from safetensors.

    Raises:
        ModelError: It cannot be loaded, or weights are missing that would be drawn at random.
    """
    if not trust_remote_code:
        require_sizes(folder, read_config(folder))
    try:
        with quiet_loading():
            model, info, auto_class = _load(folder, recipe, dtype, trust_remote_code=trust_remote_code)
    except ModelError:
        raise
    except Exception as error:  # Depending on what is wrong, transformers raises about anything.
        raise ModelError(_load_message(folder, error)) from error
    _require_sizes_of_config(folder, info["mismatched_keys"])
    _require_all_weights(folder, model, info["missing_keys"], info["unexpected_keys"])
    if auto_class is AutoModelForSequenceClassification:
        _require_one_logit(folder, model, recipe)
    unused = require_all_used(folder, info["unexpected_keys"], class_name=type(model).__name__)
    if unused:
        logger.info("weights of %s that its class does not use: %s", folder, some_of(unused))
    placed: Any = model
    placed.to(device).eval()
    return model


def _load(
    folder: Path, recipe: Recipe, dtype: torch.dtype, *, trust_remote_code: bool
) -> tuple[PreTrainedModel, dict[str, Any], Any]:
    settings = read_config(folder)
    common: dict[str, Any] = {
        "dtype": dtype,
        "output_loading_info": True,
        "use_safetensors": True,
        "ignore_mismatched_sizes": True,  # so that they are named in a message
        "adapter_kwargs": {"subfolder": "adapters-are-not-loaded"},  # with peft, transformers looks for one
    }
    if "converted_from" in settings:
        config = _plainly_run(AutoConfig.for_model(**settings))
        auto_class = _auto_class(config, recipe)
        model_class: Any = _OWN_CLASSES.get(settings["converted_from"]) or auto_class._model_mapping[type(config)]
        _require_stored(folder, model_class, config)
        weights = _renamed_weights(folder, settings["converted_from"])
        model, info = model_class.from_pretrained(
            None, config=config, state_dict=weights, **common, **_attention(config, auto_class)
        )
        return model, info, auto_class
    # A class of this package's choice is loaded for a listwise model, whatever its auto_map says.
    trust_remote_code = trust_remote_code and recipe.kind is not Kind.LIST
    config = _plainly_run(
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    )
    auto_class = _auto_class(config, recipe)
    if type(config) in auto_class._model_mapping and not trust_remote_code:
        _require_stored(folder, auto_class._model_mapping[type(config)], config)
    model, info = auto_class.from_pretrained(
        folder,
        config=config,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        **common,
        **_attention(config, auto_class),
    )
    model, info = _with_head(folder, recipe, model, info)
    return model, info, auto_class


def _with_head(
    folder: Path, recipe: Recipe, model: PreTrainedModel, info: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model with what makes the logit on top, where transformers has the model below it alone."""
    if recipe.kind is Kind.LIST:
        missing = [f"model.{name}" for name in info["missing_keys"]]
        unexpected = [name for name in info["unexpected_keys"] if name not in PROJECTOR]
        return with_projector(folder, model), {**info, "missing_keys": missing, "unexpected_keys": unexpected}
    if recipe.has_module_head:
        missing = [f"encoder.{name}" for name in info["missing_keys"] if not name.startswith("pooler.")]
        return with_chain(folder, model), {**info, "missing_keys": missing}
    return model, info


def _require_stored(folder: Path, model_class: Any, config: Any) -> None:
    """Compare numbers of parameters, on a copy without memory: what no file holds would be allocated and drawn."""
    plain = copy.deepcopy(config)
    plain._attn_implementation = "eager"
    with torch.device("meta"):
        model: PreTrainedModel = model_class(plain)
    require_stored(folder, sum(weight.numel() for weight in model.parameters()))


def _plainly_run(config: Any) -> Any:
    """Without settings that change how a result is handed over or computed in pieces, and no number of it."""
    config.return_dict = True
    if getattr(config, "chunk_size_feed_forward", 0):
        config.chunk_size_feed_forward = 0
    return config


def _renamed_weights(folder: Path, converted_from: str) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        for name, weight in load_file(path).items():
            if names := new_names(name, converted_from):
                weights |= dict(zip(names, weight.chunk(len(names)), strict=True))
    return weights


def _auto_class(config: Any, recipe: Recipe) -> Any:
    if recipe.has_module_head or recipe.kind is Kind.LIST:
        return AutoModel
    return AutoModelForCausalLM if has_answer_head(recipe, config.to_dict()) else AutoModelForSequenceClassification


def _attention(config: Any, auto_class: Any) -> dict[str, str]:
    """What a config.json asks for must not decide: its author's machine had other kernels."""
    mapping = auto_class._model_mapping
    if type(config) not in mapping:
        return {}
    model_class: Any = mapping[type(config)]
    return {"attn_implementation": "sdpa" if model_class._supports_sdpa else "eager"}


def _load_message(folder: Path, error: Exception) -> str:
    from transformers import __version__

    reason = str(error).strip().splitlines()
    return (
        f"The model in {folder} cannot be loaded by transformers {__version__}: {type(error).__name__}: "
        f"{reason[0] if reason else ''} If the family is newer than that version, upgrade transformers; "
        "else compare the folder with its source."
    )


def _require_sizes_of_config(folder: Path, mismatched: Collection[tuple[str, Any, Any]]) -> None:
    if mismatched:
        name, stored, wanted = min(mismatched)
        raise ModelError(
            f"The weight {name} in {folder} has the shape {tuple(stored)}, and config.json asks for "
            f"{tuple(wanted)}. They do not belong together: copy both from one source."
        )


def _require_all_weights(
    folder: Path, model: PreTrainedModel, missing: Collection[str], unused: Collection[str]
) -> None:
    if not missing:
        return
    encoder = f"{model.base_model_prefix}."
    of_head = [key for key in missing if not key.startswith(encoder)]
    others = changing(unused)
    if others:
        raise ModelError(
            f"Weights are missing in {folder} ({len(missing)}: {some_of(missing)}), and it has others that "
            f"{type(model).__name__} does not use ({len(others)}: {some_of(others)}). If they are the same under other "
            "names, save the model with save_pretrained of that class."
        )
    if len(of_head) == len(missing):
        raise ModelError(
            f"The head of the model in {folder} has no weights ({some_of(missing)}), so it would score at random. "
            "This is an embedding or a base model: name a trained reranker (a cross-encoder with one label)."
        )
    raise ModelError(
        f"Weights are missing in {folder} ({len(missing)}: {some_of(missing)}), so they would be drawn at random. "
        f"They do not belong to {type(model).__name__}, or the copy is not complete."
    )


def _require_one_logit(folder: Path, model: PreTrainedModel, recipe: Recipe) -> None:
    if model.config.num_labels == 2 and recipe.positive_label is not None:
        fold_labels(model, recipe.positive_label)
    elif model.config.num_labels != 1:
        raise ModelError(
            f"The model in {folder} has {model.config.num_labels} labels, and the recipe {recipe.name} reads one. "
            "Use a model trained with num_labels=1."
        )


def num_embeddings(model: PreTrainedModel) -> int:
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def check_ids(input_id_limit: int, num_embeddings: int, folder: Path) -> None:
    """Refuse a tokenizer that can give ids for which the model has no embedding."""
    if input_id_limit > num_embeddings:
        raise ModelError(
            f"The tokenizer in {folder} gives ids up to {input_id_limit - 1}, and the model has {num_embeddings} "
            "embeddings. They do not belong together: copy both from one source."
        )
