"""Tables, tiles and the frame of a section."""

from __future__ import annotations

from collections.abc import Sequence

from reranker_batch.page.markup import NOTHING, Markup, joined, tag

Row = Sequence[str]


def section(title: str, *children: str, note: str = "") -> Markup:
    """A card with a heading; nothing at all where there is nothing in it."""
    content = joined(children)
    if not content:
        return NOTHING
    lead = tag("p", note, class_="note") if note else NOTHING
    return tag("section", tag("h2", title), lead, content)


def table(header: Row, rows: Sequence[Row], *, texts: int = 1) -> Markup:
    """A table that scrolls by itself where it is too wide. The first `texts` columns are text, the others numbers."""
    head = tag("tr", *(tag("th", cell, scope="col", class_=_kind(at, texts)) for at, cell in enumerate(header)))
    body = [tag("tr", *(tag("td", cell, class_=_kind(at, texts)) for at, cell in enumerate(row))) for row in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def _kind(column: int, texts: int) -> str:
    return "text" if column < texts else "number"


def side_by_side(*children: str) -> Markup:
    """Figures next to each other where the page is wide enough."""
    content = joined(children)
    return tag("div", content, class_="side") if content else NOTHING


def facts(rows: Sequence[tuple[str, str]]) -> Markup:
    """Names and values."""
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows]
    return tag("dl", *pairs) if pairs else NOTHING


def tiles(rows: Sequence[tuple[str, str, str]]) -> Markup:
    """Figures that are read first: name, value, remark."""
    return tag(
        "ul",
        *(tag("li", tag("span", name), tag("strong", value), tag("small", remark)) for name, value, remark in rows),
        class_="tiles",
    )


def folded(title: str, *children: str) -> Markup:
    """Content that is opened with a click."""
    return tag("details", tag("summary", title), *children)


def items(rows: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", row) for row in rows), class_="list") if rows else NOTHING
