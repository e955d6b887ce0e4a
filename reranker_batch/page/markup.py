"""HTML as text that is escaped in one place."""

from __future__ import annotations

from html import escape


class Markup(str):
    """HTML that is safe as it is. Every other string is text."""


NOTHING = Markup()


def tag(name: str, *children: str, **attributes: str) -> Markup:
    """An element; children that are no Markup are escaped. `class_` is `class`, other underscores are hyphens."""
    shown = "".join(f' {_attribute_name(key)}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{shown}>{joined(children)}</{name}>")


def joined(children: tuple[str, ...] | list[str]) -> Markup:
    """One after the other; what is no Markup is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _attribute_name(key: str) -> str:
    return "class" if key == "class_" else key.replace("_", "-")
