"""`section.key=value` of the command line."""

from __future__ import annotations

from typing import Any

from reranker_batch.config.complaints import unknown_key
from reranker_batch.config.plain import SectionType, is_list, item_of, read_plain, section_of, short_key, type_of
from reranker_batch.config.yaml_file import read_list
from reranker_batch.errors import ConfigError


def apply_override(values: dict[str, Any], override: str, root: SectionType) -> None:
    """Set one key in the values of a config file. A key that takes text gets all that follows the first `=`.

    Raises:
        ConfigError: There is no such key, or the value is no list where the key takes one.
    """
    name, equals, text = override.partition("=")
    place = _whole(name.strip().split("."), root)
    if not equals or not all(place):
        raise ConfigError(f"--set {name.strip()!r} is not of the form section.key=value, such as ranking.top_n=10.")
    annotation = _find(place, root)
    *sections, key = place
    inside: SectionType | None = root
    for section in sections:
        inside = None if inside is None else section_of(type_of(inside, section))
        values = _enter(values, section, name, None if inside is None else short_key(inside))
    values[key] = _read(text, name, annotation)


def _whole(place: list[str], root: SectionType) -> list[str]:
    """The place of a key; of a section that a plain text can stand for, the key which that text is for."""
    section: SectionType | None = root
    for part in place:
        section = None if section is None else section_of(type_of(section, part))
    short = None if section is None else short_key(section)
    return place if short is None else [*place, short]


def _find(place: list[str], root: SectionType) -> Any:
    """The type of the key."""
    section = root
    for depth, part in enumerate(place):
        annotation = type_of(section, part)
        if annotation is None:
            raise ConfigError(f"--set {'.'.join(place)}: {unknown_key(place[: depth + 1], root)}")
        inner = section_of(annotation)
        if inner is None and depth + 1 < len(place):
            raise ConfigError(f"--set {'.'.join(place)}: {'.'.join(place[: depth + 1])} is a key, not a section.")
        section = inner or section
    if inner is not None:
        keys = ", ".join(f"{'.'.join(place)}.{key}" for key in inner.model_fields)
        raise ConfigError(f"--set {'.'.join(place)} names a section. Set one of its keys: {keys}.")
    return annotation


def _enter(values: dict[str, Any], section: str, name: str, short: str | None) -> dict[str, Any]:
    """The values of a section, where a plain text may stand for its key `short`."""
    inner = values.setdefault(section, {})
    if isinstance(inner, str) and short is not None:
        inner = values[section] = {short: inner}
    if not isinstance(inner, dict):
        raise ConfigError(f"--set {name}: the config file gives {section} a value, but it is a section with keys.")
    return inner


def _read(text: str, name: str, annotation: Any) -> Any:
    """`[a, b]` as in YAML, where names may be quoted; where a key is always a list, just `a,b` too."""
    if (section := section_of(item_of(annotation))) is not None:
        keys = ", ".join(section.model_fields)
        raise ConfigError(f"--set {name} names a list of sections with {keys}. Write them in the config file.")
    if item_of(annotation) is not None and text.strip().startswith("["):
        return read_list(text, f"--set {name}", annotation)
    if not is_list(annotation):
        return read_plain(text, annotation)
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    return [read_plain(part, item_of(annotation)) for part in parts]
