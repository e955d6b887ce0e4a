"""Where the files of a model are, and what they hold."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

from reranker_batch.core.copies import CopyFolder
from reranker_batch.errors import ModelError
from reranker_batch.model.folder.config_json import read_config
from reranker_batch.model.folder.hashing import sha256_of
from reranker_batch.model.folder.native import new_names
from reranker_batch.model.folder.weights import weight_shapes
from reranker_batch.model.source.requirements import (
    WEIGHTS,
    require_model,
    require_no_code,
    require_plain_inputs,
    require_plain_weights,
    require_readable,
    require_weights,
)
from reranker_batch.uris import BUILTIN, BUILTIN_FOLDER, builtin_name, is_uri

logger = logging.getLogger(__name__)
_HUB_TIMEOUT_S = 20.0

_WEIGHTS = (*WEIGHTS, "model.safetensors.index.json", "[0-9]*_*/model.safetensors")
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
    "sentence_*_config.json",
    "[0-9]*_*/config.json",
)
_CODE = ("*.py",)

_DOWNLOADED: dict[tuple[str, str | None, bool, bool], Path] = {}
"""Folders by name, commit, with_weights and trust_remote_code."""


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

    def num_weights(self) -> int:
        """Weights that a pair is computed with, without embeddings, by the headers of their files."""
        layout = self.config().get("converted_from")
        shapes = weight_shapes(self.folder).items()
        read = [(name, shape) for name, shape in shapes if layout is None or new_names(name, layout)]
        return sum(prod(shape) for name, shape in read if len(shape) > 1 and "embed" not in name)

    def hashes(self, *, with_weights: bool = True) -> dict[str, str]:
        """sha256 of the content of every file that can change a score, by its path in the folder.

        A file that has not changed since is not read a second time by the same process.
        """
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self.folder).as_posix() for path in paths)
        try:
            return {
                name: sha256_of(self.folder / name)
                for name in names
                if _changes_scores(name, with_weights=with_weights, with_code=self.trust_remote_code)
            }
        except OSError as error:
            raise ModelError(f"The files of model {self.name} in {self.folder} cannot be read: {error}.") from error

    def require(self, expected: Mapping[str, str], *, with_weights: bool = True) -> None:
        """Refuse files that are not those that a run was planned with; `expected` is what `hashes` gave then.

        Without weights only the files that a tokenizer needs are compared. Call it before and after loading, so that
        it covers what was loaded; the second call is cheap.

        Raises:
            ModelError: Files differ, are missing or are new; names them.
        """
        planned = {
            name: digest
            for name, digest in expected.items()
            if with_weights or _changes_scores(name, with_weights=False, with_code=self.trust_remote_code)
        }
        present = self.hashes(with_weights=with_weights)
        differing = {
            "other content": [name for name in planned if name in present and present[name] != planned[name]],
            "missing": [name for name in planned if name not in present],
            "new": [name for name in present if name not in planned],
        }
        reasons = [f"{what}: {', '.join(names)}" for what, names in differing.items() if names]
        if reasons:
            raise ModelError(
                f"The files of model {self.name} in {self.folder} are not those that the run was planned with "
                f"({'; '.join(reasons)}), so two models would be mixed in one output. Put the planned files back on "
                "every machine, or start a new run with another output."
            )


def resolve_model(
    name: str,
    *,
    revision: str | None = None,
    with_weights: bool = True,
    trust_remote_code: bool = False,
    copy_folder: CopyFolder | None = None,
) -> ModelFiles:
    """Find the files of `name`: a local folder, `builtin:mini`, a URI, which `copy_folder` copies, or a hub id.

    From a hub or a store come only settings and safetensors weights, never pickles, and code only where
    `trust_remote_code` asks for it, from a hub with a commit as `revision`. A second call takes them from the local
    cache. The `revision` of a URI is the version that an earlier call found there.

    Raises:
        ModelError: Not found, not reachable, or not safe or complete enough to be loaded.
    """
    if (shipped := builtin_name(name)) is not None:
        files = ModelFiles(name, _builtin_folder(shipped))
    elif is_uri(name):
        files = _from_store(name, revision, copy_folder, with_weights=with_weights, with_code=trust_remote_code)
    elif _is_folder(name):
        files = ModelFiles(name, _local_folder(name, revision), None, trust_remote_code)
    else:
        _require_pinned(name, revision, trust_remote_code)
        files = _from_hub(name, revision, with_weights=with_weights, trust_remote_code=trust_remote_code)
    _require_servable(files, with_weights=with_weights)
    return files


def _require_servable(files: ModelFiles, *, with_weights: bool) -> None:
    require_model(files.folder, name=files.name)
    config = files.config()
    require_readable(files.folder)
    require_no_code(files.folder, config, name=files.name, trust_remote_code=files.trust_remote_code)
    require_plain_inputs(files.folder, config, name=files.name)
    require_plain_weights(config, name=files.name)
    if with_weights:
        paths = (path for pattern in ("*", "*/*") for path in files.folder.glob(pattern))
        names = [path.relative_to(files.folder).as_posix() for path in paths]
        require_weights(names, name=files.name, where=str(files.folder))


def _builtin_folder(name: str) -> Path:
    known = sorted(path.parent.name for path in BUILTIN_FOLDER.glob("*/config.json"))
    if name not in known:
        names = ", ".join(BUILTIN + item for item in known) or "none"
        raise ModelError(f"Model {BUILTIN}{name} does not come with the package. Known: {names}.")
    return BUILTIN_FOLDER / name


def _is_folder(name: str) -> bool:
    return Path(name).expanduser().is_dir() or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name)


def _local_folder(name: str, revision: str | None) -> Path:
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise ModelError(f"Model folder {name} does not exist (looked at {folder}). Set model.name.")
    if revision is not None:
        raise ModelError(f"model.revision={revision!r} belongs to a hub model, and {name} is a local folder. Drop it.")
    return folder


def _from_store(
    uri: str, version: str | None, copy_folder: CopyFolder | None, *, with_weights: bool, with_code: bool
) -> ModelFiles:
    if copy_folder is None:
        raise ModelError(f"Model {uri} is a URI, and only folders of this machine are read here. Set model.name.")
    copy = copy_folder(
        uri,
        part=("weights" if with_weights else "settings") + ("-code" if with_code else ""),
        is_wanted=partial(_changes_scores, with_weights=with_weights, with_code=with_code),
        decides=partial(_changes_scores, with_weights=True, with_code=with_code),
        version=version,
    )
    if copy.version is None:
        return ModelFiles(uri, _local_folder(str(copy.folder), version), None, with_code)
    return ModelFiles(uri, copy.folder, copy.version, with_code)


def _require_pinned(name: str, revision: str | None, trust_remote_code: bool) -> None:
    if trust_remote_code and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ModelError(
            f"model.trust_remote_code=true runs the code of {name}, and model.revision={revision!r} does not say "
            "which. Set model.revision to the full commit hash whose code you have read."
        )


def _from_hub(name: str, revision: str | None, *, with_weights: bool, trust_remote_code: bool) -> ModelFiles:
    """Asks the hub for a commit once a process."""
    folder = _DOWNLOADED.get((name, revision, with_weights, trust_remote_code))
    if folder is not None and folder.is_dir():
        return ModelFiles(name, folder, revision, trust_remote_code)
    files = _download(name, revision, with_weights=with_weights, trust_remote_code=trust_remote_code)
    for part in {with_weights, False}:
        _DOWNLOADED[name, files.revision, part, trust_remote_code] = files.folder
    return files


def _download(name: str, revision: str | None, *, with_weights: bool, trust_remote_code: bool) -> ModelFiles:
    from reranker_batch.model.source import hub

    listing = hub.list_files(name, revision, timeout_s=_HUB_TIMEOUT_S)
    if listing is None:
        folder = hub.cached_folder(name, revision)
        logger.warning("the hub cannot be reached; %s is taken from the local cache (%s)", name, folder.name)
        return ModelFiles(name, folder, folder.name, trust_remote_code)
    if with_weights:
        require_weights(listing.names, name=name, where="its repository")
    wanted = [
        item for item in listing.names if _changes_scores(item, with_weights=with_weights, with_code=trust_remote_code)
    ]
    folder = hub.download(name, listing.commit, wanted)
    return ModelFiles(name, folder, listing.commit, trust_remote_code)


def _changes_scores(name: str, *, with_weights: bool, with_code: bool) -> bool:
    patterns = [*_SETTINGS]
    if with_weights:
        patterns += _WEIGHTS
    if with_code:
        patterns += _CODE
    return any(name.count("/") == pattern.count("/") and fnmatchcase(name, pattern) for pattern in patterns)
