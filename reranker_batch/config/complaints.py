"""What is wrong with a config, in words: the key, the value and the remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from reranker_batch.config.plain import SectionType, item_of, section_of, type_of

_MOST_LINES = 20
_LONGEST_VALUE = 100
_ODD_NUMBER = re.compile(r"[+-]?0[0-9xob_][0-9a-fx_.]*|[0-9]+([:,_][0-9]+)+(\.[0-9]*)?", re.IGNORECASE)


def complaints(error: ValidationError, root: SectionType) -> Iterator[str]:
    """One line a key; the branches of a union share theirs."""
    by_key: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        place = list(_place(detail["loc"], root))
        by_key.setdefault(".".join(place), []).append(_complaint(detail, place, root))
    lines = [f"  {name + ': ' if name else ''}{', or '.join(parts)}" for name, parts in by_key.items()]
    yield from lines[:_MOST_LINES]
    if len(lines) > _MOST_LINES:
        yield f"  and {len(lines) - _MOST_LINES} more"


def _complaint(detail: Any, place: list[str], root: SectionType) -> str:
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return unknown_key(place, root)
    if kind == "missing":
        return "this key is required."
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"this is a section: give its keys below it{_seen(value)}"
    if value is None:
        return "a value is required here."
    message = str(detail["msg"])
    if message.startswith("Value error, "):  # of our own validators, which show what can be shown
        return message.removeprefix("Value error, ")
    return message + _seen(value)


def _seen(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    if isinstance(value, dict | list):
        return "; a text that begins with { or [ needs quotes"
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"
    is_odd = isinstance(value, str) and _ODD_NUMBER.fullmatch(value) is not None
    return f" (seen: {shown}{'; write it in plain decimal digits' if is_odd else ''})"


def _place(location: tuple[int | str, ...], root: SectionType) -> Iterator[str]:
    """Sections, key and index in a list, without the branches of a union, which pydantic names in the location too."""
    annotation: Any = root
    for part in location:
        section = section_of(annotation)
        if section is not None or isinstance(part, int):
            yield str(part)[:_LONGEST_VALUE]
        if section is not None:
            annotation = type_of(section, str(part))
        else:
            annotation = item_of(annotation) if isinstance(part, int) else None


def unknown_key(place: list[str], root: SectionType) -> str:
    """That a key is unknown, where the key meant may be, and which keys there are."""
    section, annotation = root, None
    for part in place[:-1]:
        annotation = item_of(annotation) if part.isdecimal() else type_of(section, part)
        section = section_of(annotation) or section
    hint = _meant(place, section, root)
    return f"unknown key. {f'Did you mean {hint}? ' if hint else ''}Known here: {', '.join(section.model_fields)}."


def _meant(place: list[str], section: SectionType, root: SectionType) -> str | None:
    """The same name first, wherever it is, then what is written alike."""
    name = place[-1].lower().replace("-", "_")
    names = dict(_all_names(root))
    if name in section.model_fields:
        return name
    if same := [full for full, leaf in names.items() if leaf == name]:
        return same[0]
    if close := difflib.get_close_matches(name, section.model_fields, n=1, cutoff=0.7):
        return close[0]
    close = difflib.get_close_matches(name, names.values(), n=1, cutoff=0.8)
    return next((full for full, leaf in names.items() if leaf == close[0]), None) if close else None


def _all_names(section: SectionType, prefix: str = "") -> Iterable[tuple[str, str]]:
    for name in section.model_fields:
        annotation = type_of(section, name)
        inner = section_of(annotation) or section_of(item_of(annotation))
        if inner is None:
            yield prefix + name, name
        else:
            yield from _all_names(inner, f"{prefix}{name}.")
