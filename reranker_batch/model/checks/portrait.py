"""What a folder is, said from names of files and settings alone: for folders that cannot be used, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.folder.json_files import read_json, require_content
from reranker_batch.model.source.requirements import ADAPTERS, OTHER_FORMATS, WEIGHTS, is_pickle
from reranker_batch.printing import listed

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "tekken.json")
_MOST_FILES = 2_000
_HEADS: Mapping[str, str] = {
    "ForSequenceClassification": "model with labels",
    "ForTokenClassification": "model that labels single tokens",
    "ForQuestionAnswering": "model that finds an answer within a text",
    "ForMaskedLM": "language model that fills in masked words",
    "ForPreTraining": "language model before any training for a task",
    "ForCausalLM": "generative language model",
    "LMHeadModel": "generative language model",
    "ForConditionalGeneration": "generative model that reads a text or an image first",
    "Model": "encoder without a head, as embedding and base models are",
}
_OF_MODULES = "encoder with modules of sentence-transformers on top"


def portrait(folder: Path) -> list[tuple[str, str]]:
    """Rows that say what is in a folder. Never raises."""
    names = _names(folder)
    config = _settings(folder / "config.json")
    rows = (
        ("what it is", _what(folder, config, names)),
        ("labels", _labels(config)),
        ("modules", ", ".join(_modules(folder))),
        ("weights", listed(list(_weights(folder, names)))),
        ("tokenizer", listed([name for name in names if _is_one_of(name, _TOKENIZERS)])),
    )
    return [(name, text or "none") for name, text in rows if text or name in ("weights", "tokenizer")]


def _names(folder: Path) -> list[str]:
    """Files of the folder and of the folders in it, those of the folder itself first."""
    try:
        paths = [path for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern)) if path.is_file()]
    except OSError:
        return []
    return [path.relative_to(folder).as_posix() for path in paths[:_MOST_FILES]]


def _settings(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except ModelError:
        return {}
    return value if isinstance(value, dict) else {}


def _what(folder: Path, config: Mapping[str, Any], names: list[str]) -> str:
    if "adapter_config.json" in names and not any(_is_one_of(name, WEIGHTS) for name in names):
        base = _settings(folder / "adapter_config.json").get("base_model_name_or_path")
        return f"adapter for another model ({base or 'not named'})"
    if not config:
        return "no model of transformers: config.json cannot be read, or is missing"
    architectures = config.get("architectures")
    classes = [str(item) for item in architectures] if isinstance(architectures, list) else []
    head = next((text for ending, text in _HEADS.items() for item in classes if item.endswith(ending)), "model")
    head = _OF_MODULES if head == _HEADS["Model"] and _modules(folder)[-1:] == ["Dense"] else head
    more = (", with code of its own" if config.get("auto_map") else "") + _quantized(config)
    return f"{head}: {listed(classes) or 'no class named'}, model_type {config.get('model_type')!r}{more}"


def _quantized(config: Mapping[str, Any]) -> str:
    settings = config.get("quantization_config") or config.get("compression_config")
    if not settings:
        return ""
    method = settings.get("quant_method") if isinstance(settings, Mapping) else None
    return f", quantized ({method or 'method not named'})"


def _labels(config: Mapping[str, Any]) -> str:
    labels = config.get("id2label")
    return listed([f"{index} ({name})" for index, name in labels.items()]) if isinstance(labels, dict) else ""


def _modules(folder: Path) -> list[str]:
    """The modules of sentence-transformers, by the last part of their names."""
    try:
        rows = read_json(folder / "modules.json")
    except ModelError:
        return []
    rows = rows if isinstance(rows, list) else []
    return [str(row.get("type")).rpartition(".")[2] for row in rows if isinstance(row, dict)]


def _weights(folder: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        kind = _kind_of_weights(name)
        if kind is not None:
            yield f"{name} ({', '.join(part for part in (kind, _size(folder / name)) if part)})"


def _kind_of_weights(name: str) -> str | None:
    """What a file with weights is; None for another file, and nothing to say of the model's own safetensors."""
    if _is_one_of(name, WEIGHTS):
        return ""
    if _is_one_of(name, ADAPTERS):
        return "adapter"
    if is_pickle(name):
        return "pickle"
    return next((kind for pattern, kind in OTHER_FORMATS.items() if _is_one_of(name, (pattern,))), None)


def _size(path: Path) -> str:
    try:
        require_content(path)
        return f"{path.stat().st_size / 1e6:,.1f} MB"
    except ModelError:
        return "not the file itself but a Git LFS pointer, or not readable"
    except OSError:
        return ""


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.rpartition("/")[2], pattern) for pattern in patterns)
