"""JSON files of a model folder, read with bounds: their authors are strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reranker_batch.errors import ModelError

_MAX_BYTES = 256 << 20
_LFS = b"version https://git-lfs.github.com/spec/"


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: The file cannot be read, is no JSON, or holds something else.
    """
    value: dict[str, Any] = _typed(path, read_json(path), dict)
    return value


def read_optional_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is no file.

    Raises:
        ModelError: As `read_object`.
    """
    return read_object(path) if path.is_file() else {}


def read_array(path: Path) -> list[Any]:
    """The JSON array in a file.

    Raises:
        ModelError: As `read_object`.
    """
    value: list[Any] = _typed(path, read_json(path), list)
    return value


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        ModelError: The file cannot be read, is too large, or is no JSON.
    """
    require_content(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{path} is larger than {_MAX_BYTES >> 20} MiB, which no settings of a model are.")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ModelError(f"{path} cannot be read as JSON: {reason[:300]}. Copy the model again.") from error


def read_text(path: Path) -> str:
    """The text of a file; invalid UTF-8 bytes appear as U+FFFD.

    Raises:
        ModelError: The file cannot be read.
    """
    require_content(path)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error


def require_content(path: Path) -> None:
    """Refuse a Git LFS pointer in place of a file.

    Raises:
        ModelError: The file is one, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if start == _LFS:
        raise ModelError(
            f"{path} is a Git LFS pointer and not the file itself. Run `git lfs pull` in the clone, or download the "
            "model with `hf download`."
        )


def _typed(path: Path, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        name = "object" if kind is dict else "array"
        raise ModelError(f"{path} holds no JSON {name} but a {type(value).__name__}. Copy the model again.")
    return value
