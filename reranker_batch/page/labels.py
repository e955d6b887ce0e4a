"""run/report.html of labels: what became of the candidates, margins, agreement of the teachers, rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reranker_batch.page.charts import labelled_bar, titled
from reranker_batch.page.document import html_of, plain
from reranker_batch.page.histograms import histogram
from reranker_batch.page.markup import NOTHING, Markup, joined, tag
from reranker_batch.page.tables import facts, section, side_by_side, table, tiles
from reranker_batch.page.values import Values, count, decimal, share
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.run_state import PAGE, RunState

_SIDE = 288
"""Pixels of a scatter plot."""
_MOST_PAIRS = 10
"""Pairs of teachers that are drawn."""


def label_page(report: Mapping[str, Any], meanings: Mapping[str, str]) -> bytes:
    """HTML in UTF-8. `report` is what labels_report.json holds, `meanings` explain decisions and reasons.

    The same values give the same bytes.
    """
    values = Values(report)
    sections = [
        _head(values),
        _figures(values),
        _fates(values, meanings),
        section("Margins", histogram(values, ["margins"], "Negatives by margin"), note=_MARGIN),
        _agreement(values),
        _teachers(values),
        _rules(values),
        tag("footer", "Made from run/labels_report.json, finished at ", values.text("finished_at"), "."),
    ]
    return html_of(plain(values, f"labels: {values.at('output')}"), sections)


_MARGIN = "How far the score of a negative is below that of the lowest positive of its query."


def write_label_page(output: Folder, report: Mapping[str, Any], meanings: Mapping[str, str]) -> None:
    """Raises CommitError when it cannot be written."""
    RunState(output).write_content(PAGE, label_page(report, meanings))


def _head(values: Values) -> Markup:
    return tag(
        "header",
        tag("p", "reranker-batch label", class_="kicker"),
        tag("h1", values.text("output")),
        tag(
            "p", tag("span", "Complete", class_="badge good"), tag("span", "All parts are published."), class_="status"
        ),
    )


def _figures(values: Values) -> Markup:
    relabelled = joined([values.number("relabelled"), " relabelled"])
    dropped = sum(values.at("dropped").values())
    return tiles(
        [
            ("queries with labels", values.number("labelled_queries"), joined(["of ", values.number("queries")])),
            ("positives", values.number("positives"), relabelled),
            ("negatives", values.number("negatives"), _of_query(values)),
            ("candidates", values.number("candidates"), "of the input"),
            ("dropped", values.derived(dropped), joined([_share(values, dropped), " of all candidates"])),
            ("parts", values.number("parts"), joined([values.number("parts_made"), " by this command"])),
        ]
    )


def _of_query(values: Values) -> Markup:
    queries = values.at("labelled_queries")
    return joined([values.derived(values.at("negatives") / queries if queries else None, decimal), " a query"])


def _share(values: Values, number: int) -> Markup:
    return values.derived(number / values.at("candidates") if values.at("candidates") else 0.0, share)


def _fates(values: Values, meanings: Mapping[str, str]) -> Markup:
    dropped = sorted(values.at("dropped").items(), key=lambda item: (-item[1], item[0]))
    rows = [
        [
            labelled_bar(joined([values.shown(reason), tag("small", meanings.get(reason, ""))]), number / most),
            values.number("dropped", reason),
            _share(values, number),
        ]
        for reason, number in dropped
        for most in [dropped[0][1]]
    ]
    if not rows:
        return NOTHING
    note = "Positives, negatives and these are all candidates; dropped/ lists them one by one."
    return section("What was dropped, and why", table(["reason", "candidates", "share"], rows), note=note)


def _agreement(values: Values) -> Markup:
    pairs = values.first(range(len(values.at("agreements"))))
    if not pairs:
        return NOTHING
    rows = [
        [
            _pair(values, at),
            values.number("agreements", at, "tau", shown=decimal),
            values.number("agreements", at, "queries"),
        ]
        for at in pairs
    ]
    note = "Kendall's tau of the order of a query's candidates, its mean over the queries: 1 is the same order."
    plots = [_scatter(values, at) for at in pairs[:_MOST_PAIRS]]
    taus = table(["teachers", "Kendall's tau", "queries"], rows)
    return section("Agreement of the teachers", taus, side_by_side(*plots), note=note)


def _pair(values: Values, at: int) -> Markup:
    return joined([values.text("agreements", at, "teachers", 0), " and ", values.text("agreements", at, "teachers", 1)])


def _scatter(values: Values, at: int) -> Markup:
    """Candidates by the scores of two teachers: darker squares have more of them."""
    grid, reach = values.at("agreements", at, "grid"), values.at("agreements", at, "reach")
    side = round(len(grid) ** 0.5)
    if not any(grid):
        return NOTHING
    size, most = _SIDE / side, max(grid)
    squares = [
        tag(
            "rect",
            tag("title", count(number)),
            x=f"{place // side * size:.1f}",
            y=f"{_SIDE - (place % side + 1) * size:.1f}",
            width=f"{size:.1f}",
            height=f"{size:.1f}",
            fill_opacity=f"{0.15 + 0.85 * (number / most) ** 0.5:.2f}",
            class_="bar",
        )
        for place, number in enumerate(grid)
        if number
    ]
    frame = tag("rect", width=str(_SIDE), height=str(_SIDE), fill="none", stroke="currentColor", stroke_opacity="0.2")
    chart = tag("svg", frame, *squares, width=str(_SIDE), height=str(_SIDE), role="img")
    first, second = (values.text("agreements", at, "teachers", one) for one in (0, 1))
    note = joined(["to the right: ", first, ", upwards: ", second, f"; scores from {-reach:g} to {reach:g}"])
    return titled("Scores of two teachers", chart, note=note)


def _teachers(values: Values) -> Markup:
    rows = [
        [
            values.shown(name),
            values.text("settings", "teachers", name, "model", "name"),
            values.number("settings", "teachers", name, "weight", shown=decimal),
            values.number("scales", name, "offset", shown=decimal),
            values.number("scales", name, "divisor", shown=decimal),
        ]
        for name in values.first(values.at("settings", "order"))
    ]
    header = ["teacher", "model", "weight", "offset", "divisor"]
    return section("Teachers", table(header, rows, texts=2), note="A score is (logit - offset) / divisor.")


def _rules(values: Values) -> Markup:
    rules = [(name, values.shown(value)) for name, value in _flat(values.at("settings", "labels"), "")]
    return section("Rules", facts([*rules, ("fingerprint", values.text("fingerprint"))]))


def _flat(rules: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in rules.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return rows
