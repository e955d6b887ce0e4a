"""Charts as SVG that follow the width of the page: places are in percent, heights and letters in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reranker_batch.page.markup import Markup, joined, tag
from reranker_batch.page.tables import folded
from reranker_batch.page.values import count

HEIGHT = 150
_AXIS = 22
_GAP = 0.16
"""Of a column's width."""


def columns(
    heights: Sequence[float], *, labels: Sequence[str], ticks: Sequence[tuple[float, str]], title: str
) -> Markup:
    """Columns side by side. `labels` are shown where the pointer is; `ticks` are places in columns from the left."""
    top = nice_top(max(heights, default=0))
    width = 100 / max(len(heights), 1)
    bars = [
        _column(at, height / top, width, label) for at, (height, label) in enumerate(zip(heights, labels, strict=True))
    ]
    grid = [tag("line", x1="0", x2="100%", y1=_y(part), y2=_y(part), class_="grid") for part in (0.0, 0.5, 1.0)]
    axis = [_tick(place * width, text) for place, text in ticks]
    svg = tag("svg", tag("title", title), *grid, *bars, *axis, width="100%", height=str(HEIGHT + _AXIS), role="img")
    scale = tag(
        "div", *(tag("span", count(top * part)) for part in (1.0, 0.5, 0.0)), class_="scale", aria_hidden="true"
    )
    return tag("div", scale, svg, class_="plot")


def _column(at: int, share: float, width: float, label: str) -> Markup:
    height = max(share * HEIGHT, 1.0) if share else 0.0
    return tag(
        "rect",
        tag("title", label),
        x=f"{(at + _GAP / 2) * width:.3f}%",
        width=f"{(1 - _GAP) * width:.3f}%",
        y=f"{HEIGHT - height:.1f}",
        height=f"{height:.1f}",
        class_="bar",
    )


def _y(share: float) -> str:
    return f"{HEIGHT - share * HEIGHT:.1f}"


def _tick(place: float, text: str) -> Markup:
    anchor = "start" if place < 5 else "end" if place > 95 else "middle"
    return tag("text", text, x=f"{place:.3f}%", y=str(HEIGHT + _AXIS - 6), text_anchor=anchor)


def nice_top(value: float) -> float:
    """The end of an axis: 1, 2, 4, 6 or 10 times a power of ten, so that its half is round too."""
    if value <= 0:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 10) if step * power >= value * (1 - 1e-9))


def stack(shares: Sequence[float], title: str) -> Markup:
    """One bar of several parts of a whole; the classes `s0`, `s1`, … have their colours."""
    parts, start = [], 0.0
    for at, share in enumerate(shares):
        parts.append(tag("rect", x=f"{start * 100:.3f}%", width=f"{share * 100:.3f}%", height="18", class_=f"s{at}"))
        start += share
    return tag("svg", tag("title", title), *parts, width="100%", height="18", role="img", class_="stack")


def labelled_bar(label: Markup, share: float) -> Markup:
    """A name with a bar below it that is as long as its share."""
    return joined([tag("span", label), bar(share)])


def bar(share: float) -> Markup:
    """A bar that is filled by a share."""
    filled = tag("rect", width=f"{min(share, 1) * 100:.2f}%", height="6", class_="bar")
    return tag("svg", filled, width="100%", height="6", class_="inline", aria_hidden="true")


def swatch(at: int) -> Markup:
    """The colour of a part of a stack."""
    return tag("svg", tag("rect", width="10", height="10", class_=f"s{at}"), width="10", height="10", class_="swatch")


def titled(title: str, content: Markup, *, note: str = "") -> Markup:
    """A table with a title."""
    remark = [tag("p", note, class_="note")] if note else []
    return tag("figure", tag("figcaption", title), *remark, content)


def figure(title: str, chart: Markup, numbers: Markup, *, note: str = "") -> Markup:
    """A chart with its numbers in a table below."""
    return titled(title, joined([chart, folded("Numbers", numbers)]), note=note)
