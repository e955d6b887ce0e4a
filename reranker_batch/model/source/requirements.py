"""Which model folders are not served, whatever their weights are; said from names of files and their settings alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.json_files import read_json, read_object, read_optional_object, require_content
from reranker_batch.model.folder.module_chain import is_chain, read_chain
from reranker_batch.model.folder.positions import require_learned_positions
from reranker_batch.model.folder.st_settings import default_prompt
from reranker_batch.model.recipes import is_causal, takes_prompt

WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_NO_PICKLES = (
    *("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth"),
    *("openvino*.bin", "ggml-*.bin"),
)
"""What training leaves, and weights of other formats that end like a pickle."""
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
OTHER_FORMATS: Mapping[str, str] = {
    "*.onnx": "ONNX",
    "*.gguf": "GGUF (llama.cpp)",
    "ggml-*.bin": "GGML (llama.cpp)",
    "*.mlmodel": "Core ML",
    "*.h5": "TensorFlow",
    "*.msgpack": "Flax",
    "openvino*.xml": "OpenVINO",
    "*.safetensors": "safetensors under a name that is not the model's own",
}
_OBJECTS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config_sentence_transformers.json",
    "generation_config.json",
    "model.safetensors.index.json",
)


def require_readable(folder: Path) -> None:
    """Refuse a folder with a JSON file that does not parse, or a pointer in place of a file.

    Raises:
        ModelError: Names the file.
    """
    for path in sorted([*folder.glob("*.json"), *folder.glob("[0-9]*_*/config.json")]):
        if path.name == "tokenizer.json":
            require_content(path)
        elif path.name in _OBJECTS or path.parent != folder:
            read_object(path)
        else:
            read_json(path)
    for path in (item for pattern in (*WEIGHTS, "*.model", "vocab.txt", "merges.txt") for item in folder.glob(pattern)):
        require_content(path)


def require_no_code(folder: Path, config: Mapping[str, Any], *, name: str, trust_remote_code: bool) -> None:
    """Refuse a model that its own code would run otherwise than transformers, unless that code was asked for.

    Raises:
        ModelError: It has such code, or code of another repository.
    """
    own_code = config.get("auto_map") or {}
    own_tokenizer = _auto_map(folder / "tokenizer_config.json").get("AutoTokenizer")
    if trust_remote_code:
        elsewhere = [str(item) for item in [*own_code.values(), own_tokenizer] if "--" in str(item)]
        if elsewhere:
            raise ModelError(
                f"Model {name} takes its code from another repository ({elsewhere[0]}), whose commit "
                "model.revision does not pin. Use a copy of the model that holds its code."
            )
        return
    model_type = config.get("model_type")
    if own_code and not _is_native(model_type):
        raise ModelError(
            f"Model {name} (model_type={model_type!r}) needs code of its own (auto_map in config.json), which is not "
            "run. Use a version for a class of transformers, or set model.trust_remote_code with model.revision pinned "
            "to a commit whose code you have read."
        )
    used = "AutoModelForCausalLM" if is_causal(config) else "AutoModelForSequenceClassification"
    used = "AutoModel" if is_chain(folder) else used
    replaced = own_code.get(used) or (any(_flat(own_tokenizer)) and own_tokenizer)
    if replaced and "converted_from" not in config:
        raise ModelError(
            f"Model {name} brings code of its own for a class that transformers has too ({replaced} in auto_map), and "
            "what that code does otherwise is unknown here. Remove auto_map if the model is a plain "
            f"{model_type}, or set model.trust_remote_code with model.revision pinned to a commit whose code you have "
            "read."
        )


def _auto_map(path: Path) -> dict[str, Any]:
    own = read_optional_object(path).get("auto_map")
    return own if isinstance(own, dict) else {"AutoTokenizer": own}


def _flat(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]


def _is_native(model_type: object) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def require_plain_inputs(folder: Path, config: Mapping[str, Any], *, name: str) -> None:
    """Refuse what sentence-transformers would add to the texts or to the model, and no recipe here does.

    Raises:
        ModelError: Names it.
    """
    prompt = default_prompt(folder)
    if prompt and not takes_prompt(config):
        raise ModelError(
            f"Model {name} was trained with a prompt before its texts ({prompt!r}, in "
            "config_sentence_transformers.json), and no recipe puts one there: its scores would be wrong."
        )
    if is_chain(folder):
        read_chain(folder)


def require_plain_weights(config: Mapping[str, Any], *, name: str) -> None:
    """Refuse weights that plain transformers would not compute with as they were trained.

    Raises:
        ModelError: They are quantized, made for positions that transformers no longer computes, or for attention that
            depends on earlier pairs.
    """
    quantized = config.get("quantization_config") or config.get("compression_config")
    if quantized:
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
        raise ModelError(
            f"Model {name} is quantized ({method or 'quantization_config'} in config.json), which is not served: its "
            "kernels give other scores. Name the model that it was made from, in float32, bfloat16 or float16."
        )
    require_learned_positions(config, name=name)
    elsewhere = config.get("transformers_weights")
    if elsewhere not in (None, "model.safetensors"):
        raise ModelError(
            f"Model {name} names another file with its weights (transformers_weights={str(elsewhere)[:100]!r} in "
            "config.json), which is not read. Give that file the name model.safetensors, and remove the setting."
        )
    if config.get("model_type") == "big_bird" and config.get("attention_type", "block_sparse") != "original_full":
        raise ModelError(
            f"Model {name} attends in sparse blocks (attention_type in config.json), and transformers leaves that for "
            'good after the first short pair: scores would depend on the pairs before. Set "attention_type": '
            '"original_full", with which every pair is read as transformers reads short ones.'
        )


def require_model(folder: Path, *, name: str) -> None:
    """Refuse a folder without a config.json by what is there in its place.

    Raises:
        ModelError: It has no config.json, but an adapter, a file of another format, or a model in a folder of its own.
    """
    if (folder / "config.json").is_file():
        return
    names = [path.relative_to(folder).as_posix() for pattern in ("*", "*/*") for path in folder.glob(pattern)]
    inner = next((item for item in sorted(names) if fnmatchcase(item, "[0-9]*_*/config.json")), None)
    if "modules.json" in names and inner:
        raise ModelError(
            f"Model {name} has no config.json in {folder}: its model is in the folder {inner.partition('/')[0]}, as "
            "older versions of sentence-transformers saved it. Name that folder, if it holds a tokenizer and a head."
        )
    instead = (*ADAPTERS, "adapter_config.json", *PICKLES, *OTHER_FORMATS)
    if any(fnmatchcase(item.rpartition("/")[2], pattern) for item in names for pattern in instead) and not any(
        _is_weights(item) for item in names
    ):
        require_weights(names, name=name, where=str(folder))


def is_pickle(name: str) -> bool:
    """Whether a file may hold weights as a pickle."""
    last = name.rpartition("/")[2]
    return any(fnmatchcase(last, item) for item in PICKLES) and not any(fnmatchcase(last, item) for item in _NO_PICKLES)


def _is_weights(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in WEIGHTS)


def require_weights(names: Iterable[str], *, name: str, where: str) -> None:
    """Refuse a list of files without the safetensors weights of a whole model; says what is there in their place.

    Raises:
        ModelError: There are none, or an adapter's as well.
    """
    names = sorted(names)
    adapter = next((item for item in names if item in ADAPTERS), None)
    has_model = any(_is_weights(item) for item in names)
    if adapter or ("adapter_config.json" in names and not has_model):
        raise ModelError(
            f"Model {name} is an adapter for another model ({adapter or 'adapter_config.json'}). "
            "Merge it into its base model (peft: merge_and_unload), save that, and name the new folder."
        )
    if not has_model:
        raise ModelError(_no_weights(name, where, names))


def _no_weights(name: str, where: str, names: list[str]) -> str:
    pickle = next(filter(is_pickle, names), None)
    if pickle:
        return (
            f"Model {name} holds its weights only as a pickle ({pickle}), and opening one can run any code. Convert it "
            "where you trust it: read it with from_pretrained of the class that config.json names in architectures, "
            "and save_pretrained into the same folder, which writes model.safetensors; or use a revision that has it."
        )
    for pattern, kind in OTHER_FORMATS.items():
        other = next((item for item in names if fnmatchcase(item.rpartition("/")[2], pattern)), None)
        if other:
            return (
                f"Model {name} has no model.safetensors in {where}; what is there is {other} ({kind}), which is not "
                "read. Name the repository with the model's safetensors weights, or rename a file that holds them."
            )
    return f"Model {name} has no model.safetensors in {where}. Copy the weights there, or name another folder."
