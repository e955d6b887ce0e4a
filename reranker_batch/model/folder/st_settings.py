"""What sentence-transformers' own files in a model folder say of its inputs.

With a modules.json the settings of the Transformer module count; without one, sentence-transformers reads none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.json_files import read_optional_object

_SETTINGS = "config_sentence_transformers.json"
_MODULE_SETTINGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_PROCESSOR = ("processor_kwargs", "tokenizer_args")
_CONFIG = ("config_kwargs", "config_args")
_WITHOUT_EFFECT = frozenset(
    {
        "transformer_task",
        "modality_config",
        "module_output_name",
        "unpad_inputs",
        "query_length",
        "document_length",
        "query_expansion",
        "model_kwargs",
        "model_args",
    }
)
"""Of how a model is loaded and run, and of tasks that a cross-encoder does not have."""
_SAME_RESULT = frozenset(
    {
        "padding",
        "padding_side",
        "pad_to_multiple_of",
        "truncation",
        "return_tensors",
        "return_attention_mask",
        "logits_to_keep",
        "use_fast",
        "local_files_only",
        "trust_remote_code",
    }
)
"""Settings of a tokenizer that change no input of a pair that fits."""


@dataclass(frozen=True)
class ModuleSettings:
    """How sentence-transformers' Transformer module reads texts. `source` is the file, None where there is none."""

    source: Path | None = None
    max_tokens: int | None = None
    is_lower_cased: bool = False
    chat_template: str | None = None
    """The name of the chat template to use, or the template itself."""
    message_format: str | None = None
    template_options: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[str, Any] = field(default_factory=dict)
    """What the module computes of texts, as far as the file says it."""


def is_module_layout(folder: Path) -> bool:
    """Whether sentence-transformers saved the folder as a list of modules."""
    return (folder / "modules.json").is_file()


def default_prompt(folder: Path) -> str | None:
    """The text that sentence-transformers would put before the texts, or into the template.

    Raises:
        ModelError: The file with the prompts is damaged.
    """
    path = folder / _SETTINGS
    settings = read_optional_object(path)
    prompts = settings.get("prompts") or {}
    name = settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not isinstance(name, str | None):
        raise ModelError(f"{path} has no object as prompts, or no text as default_prompt_name. Copy the model again.")
    prompt = prompts.get(name)
    if not isinstance(prompt, str | None):
        raise ModelError(f"{path} has no text as the prompt {name!r}. Copy the model again.")
    return prompt or None


def default_activation(folder: Path) -> str | None:
    """The class of the activation that sentence-transformers would apply to a logit, where its settings name one.

    Raises:
        ModelError: The file with the settings is damaged.
    """
    path = folder / _SETTINGS
    return _text(path, read_optional_object(path), "activation_fn")


def module_settings(folder: Path) -> ModuleSettings:
    """The settings of the Transformer module, or none without a modules.json.

    Raises:
        ModelError: They ask for something that is not done here, or are damaged.
    """
    if not is_module_layout(folder):
        return ModuleSettings()
    paths = (folder / name for name in _MODULE_SETTINGS)
    path = next((path for path in paths if path.is_file() and read_optional_object(path)), None)
    if path is None:
        return ModuleSettings()
    settings = read_optional_object(path)
    _require_known(path, settings)
    processor = _merged(path, settings, _PROCESSOR)
    processing = _object(path, settings, "processing_kwargs")
    text = {**_object(path, processing, "common"), **_object(path, processing, "text")}
    _require_same_result(path, {name: value for name, value in processor.items() if name != "model_max_length"})
    _require_same_result(path, {name: value for name, value in text.items() if name != "max_length"})
    templating = _object(path, processing, "chat_template")
    limits = (settings.get("max_seq_length"), processor.get("model_max_length"), text.get("max_length"))
    return ModuleSettings(
        source=path,
        max_tokens=min((_whole(path, limit) for limit in limits if limit is not None), default=None),
        is_lower_cased=bool(settings.get("do_lower_case")) and _is_cross_encoder(folder),
        chat_template=_text(path, templating, "chat_template"),
        message_format=_text(path, _message(path, settings), "format"),
        template_options={k: v for k, v in templating.items() if k not in ("chat_template", "restore_suffix")},
        states=_states(path, settings),
    )


def _is_cross_encoder(folder: Path) -> bool:
    """Whether sentence-transformers would load the saved modules; else it takes the weights alone."""
    return read_optional_object(folder / _SETTINGS).get("model_type") == "CrossEncoder"


def _states(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    text = _object(path, _object(path, settings, "modality_config"), "text")
    of_text = {name: text.get(name) for name in ("method", "method_output_name")}
    return {name: settings.get(name) for name in ("transformer_task", "module_output_name")} | of_text


def _require_known(path: Path, settings: Mapping[str, Any]) -> None:
    known = {"max_seq_length", "do_lower_case", "processing_kwargs", *_PROCESSOR, *_CONFIG} | _WITHOUT_EFFECT
    for name, value in settings.items():
        if name not in known and value:
            raise _unknown(path, name, value)
    for name, value in _object(path, settings, "processing_kwargs").items():
        if name not in ("common", "text", "chat_template", "image", "audio", "video") and value:
            raise _unknown(path, f"processing_kwargs.{name}", value)
    for name, value in _merged(path, settings, _CONFIG).items():
        if name not in _SAME_RESULT and name not in ("num_labels", "attn_implementation") and value:
            raise _unknown(path, f"config_kwargs.{name}", value)


def _require_same_result(path: Path, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name not in _SAME_RESULT and value is not None and (name, value) not in (("add_special_tokens", True),):
            raise _unknown(path, name, value)


def _unknown(path: Path, name: str, value: object) -> ModelError:
    return ModelError(
        f"{path} sets {name} to {str(value)[:80]!r}, which sentence-transformers applies and this tool does not: "
        "scores would differ. Remove the setting if the model was not trained with it."
    )


def _merged(path: Path, settings: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for name in names for key, value in _object(path, settings, name).items()}


def _message(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    return _object(path, _object(path, settings, "modality_config"), "message")


def _object(path: Path, settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = settings.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ModelError(f"{path} has no JSON object as {name}: {str(value)[:60]}. Copy the model again.")
    return value


def _text(path: Path, settings: Mapping[str, Any], name: str) -> str | None:
    value = settings.get(name)
    if not isinstance(value, str | None):
        raise ModelError(f"{path} has no text as {name}: {str(value)[:60]}. Copy the model again.")
    return value


def _whole(path: Path, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(f"{path} has {str(value)[:60]} as a maximum of tokens. Copy the model again.")
    return value


def stated_answers(folder: Path) -> tuple[int, ...] | None:
    """The tokens whose logits a LogitScore module reads, the positive one first; None where there is no such module.

    Raises:
        ModelError: Its settings are damaged.
    """
    path = next(iter(sorted(folder.glob("*_LogitScore/config.json"))), None)
    if path is None:
        return None
    settings = read_optional_object(path)
    answers = [settings[key] for key in ("true_token_id", "false_token_id") if settings.get(key) is not None]
    if not answers or not all(isinstance(answer, int) for answer in answers):
        raise ModelError(f"{path} names no tokens as the answers (true_token_id). Copy the model again.")
    return tuple(answers)
