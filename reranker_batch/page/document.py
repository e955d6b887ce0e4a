"""The page: one HTML file that needs nothing else, whatever the report holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from reranker_batch.page.markup import Markup, joined, tag
from reranker_batch.page.overview import figures, gates, head, job, troubles
from reranker_batch.page.pairs import dead_letters, pairs, precision
from reranker_batch.page.ranks import metrics, movement, reuse
from reranker_batch.page.timing import timing
from reranker_batch.page.values import Values
from reranker_batch.storage.output.gate import Gate

MAX_BYTES = 300_000
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LENGTHS = ((50, 400), (20, 200), (5, 60), (2, 20))
"""How many items of a list, and how many characters of a text are shown, until the page is small enough."""


def page_of(report: Mapping[str, Any], gate: Gate | None = None) -> bytes:
    """HTML in UTF-8, at most 300 KB.

    `report` is what report.json holds. The same values give the same bytes.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: The report has not the form that this program writes.
    """
    for max_items, max_characters in _LENGTHS:
        content = _page(Values(report, max_items, max_characters), gate)
        if len(content) <= MAX_BYTES:
            return content
    raise ValueError(f"The page has {len(content):,} bytes.")


def _page(values: Values, gate: Gate | None) -> bytes:
    title = f"{values.at('status')}: {values.at('output')}".replace("_", " ")
    return html_of(plain(values, title), _sections(values, gate))


def html_of(title: Markup, sections: Sequence[Markup]) -> bytes:
    """A whole page; `title` has no elements in it."""
    head_ = [
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Markup(_style())),
    ]
    body = tag("body", tag("main", *sections))
    page = joined([Markup("<!DOCTYPE html>\n"), tag("html", tag("head", *head_), body, lang="en")])
    return page.encode(errors="backslashreplace")


def plain(values: Values, text: str) -> Markup:
    """For the title, which has no elements in it."""
    return Markup(values.shown(text).removeprefix("<bdi>").removesuffix("</bdi>"))


def _sections(values: Values, gate: Gate | None) -> list[Markup]:
    return [
        head(values, gate),
        figures(values),
        gates(values),
        troubles(values),
        movement(values),
        metrics(values),
        reuse(values),
        pairs(values),
        dead_letters(values),
        precision(values),
        timing(values),
        job(values),
        tag("footer", "Made from run/report.json, finished at ", values.text("finished_at"), "."),
    ]


@lru_cache(maxsize=1)
def _style() -> str:
    return (files("reranker_batch.page") / "page.css").read_text(encoding="utf-8")
