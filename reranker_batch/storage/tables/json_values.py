"""JSON as Python values, nothing lost and nothing guessed."""

from __future__ import annotations

import json
from typing import Any

KINDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class Infinity(float):
    """An infinity that stands in the file as such; one of any other class is a number too large for a float."""


_CONSTANTS = {"NaN": float("nan"), "Infinity": Infinity("inf"), "-Infinity": Infinity("-inf")}


class RepeatedKeyError(ValueError):
    """An object has a key twice."""


def _without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(items)
    if len(values) != len(items):
        seen = [name for name, _ in items]
        twice = next(name for name in seen if seen.count(name) > 1)
        raise RepeatedKeyError(f"the key {twice[:60]!r} stands twice")
    return values


DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_CONSTANTS.__getitem__)
"""Also takes NaN and infinities, as Python writes them. Raises ValueError, or RecursionError for too many levels."""


def shown_error(error: Exception) -> str:
    """What is wrong, without the text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1:,}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error) if isinstance(error, RepeatedKeyError) else "it has a number of thousands of digits"
