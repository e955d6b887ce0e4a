"""Where the files of a model are, and what they hold."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError
from reranker_batch.model.native import as_native
from reranker_batch.model.recipes import default_prompt, takes_prompt

_LOG = logging.getLogger(__name__)
_BUILTIN = "builtin:"
_BUILTIN_FOLDER = Path(__file__).parent.parent / "builtin"
_HUB_TIMEOUT_S = 20.0

_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
_SETTINGS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "[0-9]*_*/config.json",
)
_MODULE_WEIGHTS = ("[0-9]*_*/model.safetensors",)
_CODE = ("*.py",)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder on this machine. `revision` is the commit of a hub model, else None."""

    name: str
    folder: Path
    revision: str | None = None
    trust_remote_code: bool = False

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return read_config(self.folder, name=self.name)

    def hashes(self) -> dict[str, str]:
        """sha256 of the content of every file that can change a score, by its path in the folder."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self.folder).as_posix() for path in paths)
        return {
            name: _sha256(self.folder / name)
            for name in names
            if _changes_scores(name, with_weights=True, with_code=self.trust_remote_code)
        }


def resolve_model(
    name: str, *, revision: str | None = None, with_weights: bool = True, trust_remote_code: bool = False
) -> ModelFiles:
    """Find the files of `name`: a local folder, `builtin:mini`, or a hub id, which is downloaded.

    From a hub come only settings and safetensors weights, never pickles, and code only where
    `trust_remote_code` asks for it with a commit as `revision`. A second call takes them from the local cache.

    Raises:
        ModelError: Not found, not reachable, or not safe or complete enough to be loaded.
    """
    if name.startswith(_BUILTIN):
        files = ModelFiles(name, _builtin_folder(name))
    elif _is_folder(name):
        files = ModelFiles(name, _local_folder(name, revision), None, trust_remote_code)
    else:
        _require_pinned(name, revision, trust_remote_code)
        files = _download(name, revision, with_weights=with_weights, trust_remote_code=trust_remote_code)
    _require_no_code(files)
    _require_plain_inputs(files)
    if with_weights:
        _require_weights(files)
    return files


def read_config(folder: Path, *, name: str | None = None) -> dict[str, Any]:
    """The content of the folder's config.json, in the words of transformers' own class where that computes the same.

    Raises:
        ModelError: There is none, or it is no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"Model {name or folder} has no config.json in {folder}, so it is not a model folder.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}. Copy the model again.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds no JSON object but a {type(config).__name__}. Copy the model again.")
    return as_native(config)


def _builtin_folder(name: str) -> Path:
    known = sorted(path.parent.name for path in _BUILTIN_FOLDER.glob("*/config.json"))
    short = name.removeprefix(_BUILTIN)
    if short not in known:
        names = ", ".join(_BUILTIN + item for item in known) or "none"
        raise ModelError(f"Model {name} does not come with the package. Known: {names}.")
    return _BUILTIN_FOLDER / short


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir() or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name)


def _local_folder(name: str, revision: str | None) -> Path:
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise ModelError(f"Model folder {name} does not exist (looked at {folder}). Set model.name.")
    if revision is not None:
        raise ModelError(f"model.revision={revision!r} belongs to a hub model, and {name} is a local folder. Drop it.")
    return folder


def _require_pinned(name: str, revision: str | None, trust_remote_code: bool) -> None:
    if trust_remote_code and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ModelError(
            f"model.trust_remote_code=true runs the code of {name}, and model.revision={revision!r} does not say "
            "which. Set model.revision to the full commit hash whose code you have read."
        )


def _require_no_code(files: ModelFiles) -> None:
    """Refuse a model that only its own code can run, unless that was asked for."""
    config = files.config()
    own_code = config.get("auto_map") or {}
    if files.trust_remote_code:
        elsewhere = [str(item) for item in own_code.values() if "--" in str(item)]
        if elsewhere:
            raise ModelError(
                f"Model {files.name} takes its code from another repository ({elsewhere[0]}), whose commit "
                "model.revision does not pin. Use a copy of the model that holds its code."
            )
    elif own_code and not _is_native(config.get("model_type")):
        raise ModelError(_code_message(files.name, config.get("model_type")))


def _code_message(name: str, model_type: object) -> str:
    return (
        f"Model {name} (model_type={model_type!r}) needs code of its own (auto_map in config.json), which is not run. "
        "Use a version for a class of transformers, or set model.trust_remote_code with model.revision pinned "
        "to a commit whose code you have read."
    )


def _is_native(model_type: object) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _require_plain_inputs(files: ModelFiles) -> None:
    """Refuse what sentence-transformers would add to the texts or to the model, and no recipe here does."""
    prompt = default_prompt(files.folder)
    if prompt and not takes_prompt(files.config()):
        raise ModelError(
            f"Model {files.name} was trained with a prompt before its texts ({prompt!r}, in "
            "config_sentence_transformers.json), and no recipe puts one there: its scores would be wrong."
        )
    modules = [str(module.get("type")) for module in _read_optional(files.folder / "modules.json", [])]
    if len(modules) > 1 and not (len(modules) == 2 and modules[1].endswith(".LogitScore")):
        raise ModelError(
            f"Model {files.name} is a chain of sentence-transformers modules ({', '.join(modules)}), and only a "
            "single Transformer is served. Name a cross-encoder whose head is part of its transformers model."
        )


def _read_optional(path: Path, default: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def _require_weights(files: ModelFiles) -> None:
    if (files.folder / "adapter_config.json").exists():
        raise ModelError(
            f"Model {files.name} is an adapter for another model (adapter_config.json). "
            "Merge it into its base model (peft: merge_and_unload), save that, and name the new folder."
        )
    names = [path.name for path in files.folder.iterdir()]
    if not any(fnmatchcase(name, pattern) for name in names for pattern in _WEIGHTS[:2]):
        raise ModelError(_no_weights(files.name, str(files.folder), names))


def _no_weights(name: str, where: str, names: list[str]) -> str:
    pickles = sorted(item for item in names if any(fnmatchcase(item, pattern) for pattern in _PICKLES))
    if pickles:
        return (
            f"Model {name} holds its weights only as a pickle ({pickles[0]}), and opening one can run any code. "
            "Convert it where you trust it: AutoModelForSequenceClassification.from_pretrained(name)"
            ".save_pretrained(folder) writes model.safetensors; or use a revision that has it."
        )
    return f"Model {name} has no model.safetensors in {where}. Copy the weights there, or name another folder."


def _download(name: str, revision: str | None, *, with_weights: bool, trust_remote_code: bool) -> ModelFiles:
    from reranker_batch.model import hub

    listing = hub.list_files(name, revision, timeout_s=_HUB_TIMEOUT_S)
    if listing is None:
        folder = hub.cached_folder(name, revision)
        _LOG.warning("the hub cannot be reached; %s is taken from the local cache (%s)", name, folder.name)
        return ModelFiles(name, folder, folder.name, trust_remote_code)
    if with_weights and not any(fnmatchcase(item, pattern) for item in listing.names for pattern in _WEIGHTS[:2]):
        raise ModelError(_no_weights(name, "its repository", listing.names))
    wanted = [
        item for item in listing.names if _changes_scores(item, with_weights=with_weights, with_code=trust_remote_code)
    ]
    folder = hub.download(name, listing.commit, wanted)
    return ModelFiles(name, folder, listing.commit, trust_remote_code)


def _changes_scores(name: str, *, with_weights: bool, with_code: bool) -> bool:
    patterns = [*_SETTINGS]
    if with_weights:
        patterns += [*_WEIGHTS, *_MODULE_WEIGHTS]
    if with_code:
        patterns += _CODE
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in patterns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
