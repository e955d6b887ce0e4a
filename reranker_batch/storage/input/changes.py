"""What has changed in an input since it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reranker_batch.core.fingerprint import differences

_SHOWN = 20
_COUNTED = {"num_rows": "rows", "size_bytes": "bytes"}
_OTHERS = {"footer_digest": "another footer", "modified_ns": "another time of change"}


def input_changes(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """One line for whatever differs and for every file that is new, gone or another; of many lines the first.

    Both are what `InputPlan.identity` gives.
    """
    old, new = recorded.get("files", {}), present.get("files", {})
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    lines = differences({"input": _without_files(recorded)}, {"input": _without_files(present)})
    lines += [f"input: {name} {_change(old.get(name), new.get(name))}" for name in names]
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"and {len(lines) - _SHOWN:,} more"]


def _change(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    if old is None:
        return "is new"
    if new is None:
        return "is gone"
    changed = [name for name in (*_COUNTED, *_OTHERS) if old.get(name) != new.get(name)]
    shown = [_OTHERS.get(name) or f"{old.get(name)} -> {new.get(name)} {_COUNTED[name]}" for name in changed]
    return f"has changed ({', '.join(shown)})"


def _without_files(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != "files"}
