"""JSON documents of a run, read so strictly that a damaged one cannot pass for another."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from reranker_batch.errors import CommitError

REMEDY = "Put the original back, or use another output.path."
WRITTEN_AGAIN = "The `run` command of this job writes it again."

_MOST_DIGITS = 19
"""Of a 64-bit integer."""

Document = TypeVar("Document")


def serialized(values: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON. Characters that are no valid Unicode are escaped."""
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")


def parsed(content: bytes) -> Any:
    """Read what `serialized` gives.

    Raises:
        ValueError: It is anything else: another encoding, a key that stands twice, a number that is not finite or huge.
    """
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=_without_repeats,
            parse_constant=_refused,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def typed(document: TypeAdapter[Document], values: Any, path: str, *, remedy: str = REMEDY) -> Document:
    """What `parsed` gave, as the type of `document`, nothing converted.

    Raises:
        CommitError: They do not fit; the message names the first field that does not.
    """
    try:
        return document.validate_json(json.dumps(values, ensure_ascii=False).encode(errors="replace"), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "all of it"
        raise CommitError(
            f"{path} is not a record of this program: {field}: {first['msg']}, seen {str(first['input'])[:100]!r}. "
            f"{remedy}"
        ) from None


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(items)
    if len(values) != len(items):
        seen = [name for name, _ in items]
        raise ValueError(f"the key {next(name for name in seen if seen.count(name) > 1)!r} stands twice")
    return values


def _refused(name: str) -> float:
    raise ValueError(f"{name} is not a number that this program writes")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _bounded(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]} is too large a number")
    return int(text)
