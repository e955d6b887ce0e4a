"""Values of a report as they are shown: each number knows its place in report.json, each text has a longest length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from reranker_batch.page.markup import NOTHING, Markup, tag
from reranker_batch.printing import printable
from reranker_batch.uris import redacted

Step = str | int
_MOST_READ = 10_000
"""Characters of a text that are looked at: far more than are shown, so that a secret in an address is seen whole."""
Shown = Callable[[float], str]
ABSENT = tag("span", "none", class_="absent")


def count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def share(value: float) -> str:
    if value in (0, 1):
        return f"{value:.0%}"
    return f"{value:.1%}" if value >= 0.0005 else f"{100 * value:.1g}%"


def decimal(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def fixed(value: float) -> str:
    """As metrics are written."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    return f"{value:+.3f}"


def clock(value: float) -> str:
    """Seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=round(value)))


def duration(value: float) -> str:
    """Seconds, or hours, minutes and seconds from two minutes on."""
    if value >= 120:
        return str(timedelta(seconds=round(value)))
    return f"{value:.1f} s" if value >= 1 else f"{value:.3f} s" if value else "0 s"


@dataclass(frozen=True)
class Values:
    """A report.json, and how much of its lists and texts is shown."""

    report: Mapping[str, Any]
    max_items: int = 20
    max_characters: int = 400

    def at(self, *path: Step) -> Any:
        """The value at a place, None where there is none."""
        value: Any = self.report
        for step in path:
            if isinstance(value, Mapping):
                value = value.get(str(step))
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def number(self, *path: Step, shown: Shown = count) -> Markup:
        """A number with its exact value and its place, as a JSON pointer."""
        value = self.at(*path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ABSENT
        return tag("data", shown(value), value=repr(value), data_at=pointer(path))

    def derived(self, value: float | None, shown: Shown = count) -> Markup:
        """A number that the page computes from the report."""
        return ABSENT if value is None else tag("data", shown(value), value=repr(value))

    def text(self, *path: Step) -> Markup:
        value = self.at(*path)
        return ABSENT if value in (None, "") else self.shown(value)

    def shown(self, value: Any) -> Markup:
        """Text of the input, a message or a path: isolated from the direction of its surroundings, and not too long."""
        text = printable(redacted(str(value)[:_MOST_READ]))
        if len(text) > self.max_characters:
            text = text[: self.max_characters] + "…"
        return tag("bdi", text)

    def first(self, items: Iterable[Any]) -> list[Any]:
        """As many items as are shown."""
        return list(islice(items, self.max_items))

    def more(self, number: int) -> Markup:
        """How many items are not shown."""
        left = number - self.max_items
        return tag("p", f"and {left:,} more in run/report.json", class_="more") if left > 0 else NOTHING


def pointer(path: tuple[Step, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
