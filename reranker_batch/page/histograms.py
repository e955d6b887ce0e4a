"""Histograms of a report as charts with tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from reranker_batch.page.charts import columns, figure
from reranker_batch.page.markup import NOTHING, Markup, joined
from reranker_batch.page.tables import table
from reranker_batch.page.values import Step, Values, count, decimal

_TICKS = 5


def histogram(
    values: Values,
    path: Sequence[Step],
    title: str,
    *,
    mean: str = "mean",
    whole: bool = False,
    ends: tuple[str, str] | None = None,
) -> Markup:
    """The histogram at a place of the report. The chart leaves out empty bins at both ends.

    With `ends`, the least and the largest value that there can be, it has all bins. `whole` says that the values are
    whole numbers, so that a bin names the first and the last one in it.
    """
    edges, counts = values.at(*path, "edges"), values.at(*path, "counts")
    if not edges or not counts or not any(counts):
        return NOTHING
    names = bin_names(edges, whole=whole)
    first, last = (0, len(counts) - 1) if ends else _used(counts)
    chart = columns(
        counts[first : last + 1],
        labels=[f"{names[at]}: {count(counts[at])}" for at in range(first, last + 1)],
        ticks=_ticks(edges, first, last, ends),
        title=title,
    )
    rows = [[names[at], values.number(*path, "counts", at)] for at in range(len(counts))]
    note = joined([values.number(*path, "count"), f" values, {mean} ", values.number(*path, "mean", shown=decimal)])
    return figure(title, chart, table(["from … to", "number"], rows), note=note)


def bin_names(edges: Sequence[float], *, whole: bool) -> list[str]:
    """What is in each bin."""
    if whole:
        inner = [_whole(low, high - 1) for low, high in pairwise(edges)]
        return [f"{edges[0] - 1:,.0f} or less", *inner, f"{edges[-1]:,.0f} or more"]
    inner = [f"{low:g} … {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *inner, f"{edges[-1]:g} or more"]


def _whole(low: float, high: float) -> str:
    return f"{low:,.0f}" if low == high else f"{low:,.0f} … {high:,.0f}"


def _used(counts: Sequence[int]) -> tuple[int, int]:
    used = [at for at, number in enumerate(counts) if number]
    return used[0], used[-1]


def _ticks(edges: Sequence[float], first: int, last: int, ends: tuple[str, str] | None) -> list[tuple[float, str]]:
    """A few edges between the bins that are shown, at their places in columns."""
    between = range(first, last)
    step = max(1, -(-(len(between) + 1) // _TICKS))
    ticks = [(at - first + 1.0, f"{edges[at]:,g}") for at in between[step - 1 :: step]]
    return ticks if ends is None else [(0.0, ends[0]), *ticks, (last - first + 1.0, ends[1])]
