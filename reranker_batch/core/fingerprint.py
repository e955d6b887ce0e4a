"""Hashes of the settings that can change an output value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Every setting that can change an output value, by what it decides. Paths, replicas and budgets decide nothing."""

    scoring: Mapping[str, Any]
    """A logit of a given query and document."""
    limits: Mapping[str, Any]
    """Requests and what is counted of them."""
    output: Mapping[str, Any]
    """Rows and columns of the output."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def fingerprint(self) -> str:
        """Equal in two runs that may share an output."""
        return fingerprint(self.to_dict())

    @property
    def scoring_fingerprint(self) -> str:
        """Equal in two runs that give equal pairs equal logits."""
        return fingerprint(self.scoring)


def fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 of values; the order of keys does not matter."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One line for every field that differs, by its dotted name: `output.top_n: 10 -> 20`."""
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
