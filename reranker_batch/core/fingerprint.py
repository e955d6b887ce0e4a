"""A hash of every setting that can change an output value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings; the order of keys does not matter."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One line for every field that differs, by its dotted name: `ranking.top_n: 10 -> 20`."""
    old, new = dict(_flat(recorded, "")), dict(_flat(asked, ""))
    names = sorted(old.keys() | new.keys())
    return [
        f"{name}: {_shown(old, name)} -> {_shown(new, name)}"
        for name in names
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    ]


_ABSENT = object()


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "(absent)"


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
