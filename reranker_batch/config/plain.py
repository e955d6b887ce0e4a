"""What an unquoted text means for a key, by the key's type."""

from __future__ import annotations

import re
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*(_[0-9]+)*)")
_FLOAT = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_NULLS = ("null", "~")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LONGEST_INTEGER = 40

SectionType = type[BaseModel]


def type_of(section: SectionType, key: str) -> Any:
    """The annotation of a key, None for an unknown key."""
    field = section.model_fields.get(key)
    return None if field is None else field.annotation


def section_of(annotation: Any) -> SectionType | None:
    """The section that an annotation stands for, with or without null; None for a plain key."""
    if may_be_null(annotation):
        annotation = next((part for part in get_args(annotation) if section_of(part) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def short_key(section: SectionType) -> str | None:
    """The key that a plain text in place of the section is for, if there can be one."""
    key: str | None = getattr(section, "SHORT_KEY", None)
    return key


def item_of(annotation: Any) -> Any:
    """The type of the items where a key may be a list, else None."""
    origin = get_origin(annotation)
    if origin is list:
        return get_args(annotation)[0]
    parts = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
    if origin in (Annotated, Union, UnionType):
        return next((item for part in parts if (item := item_of(part)) is not None), None)
    return None


def may_be_null(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType) and type(None) in get_args(annotation)


def is_list(annotation: Any) -> bool:
    """Whether a key can only be a list."""
    return get_origin(annotation) is list


def read_plain(text: str, annotation: Any) -> Any:
    """The value of an unquoted text; a text that does not suit the key stays text, for validation to refuse."""
    kinds = _kinds(annotation)
    stripped = text.strip()
    if type(None) in kinds and stripped.lower() in _NULLS:
        return None
    if bool in kinds:
        return _BOOLEANS.get(stripped.lower(), text)
    if stripped in kinds:
        return stripped
    if int in kinds and len(stripped) <= _LONGEST_INTEGER and _INTEGER.fullmatch(stripped):
        return int(stripped)
    if float in kinds and _FLOAT.fullmatch(stripped):
        return float(stripped)
    return text


def _kinds(annotation: Any) -> set[Any]:
    """Types and literal texts that a value may have."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _kinds(part)}
    if origin is Literal:
        return set(get_args(annotation))
    return {annotation}
