"""Where the time of the last attempt went."""

from __future__ import annotations

from reranker_batch.page.charts import columns, figure, stack, swatch, titled
from reranker_batch.page.markup import NOTHING, Markup, joined
from reranker_batch.page.tables import section, side_by_side, table
from reranker_batch.page.values import Values, clock, count, duration, share

_ACTIVITIES = {
    "score": "computing",
    "rescore": "scoring the sample again",
    "wait_for_input": "waiting for input",
    "transfer": "between units",
}
_TICKS = 5


def timing(values: Values) -> Markup:
    return section(
        "Time of the last attempt",
        _throughput(values),
        side_by_side(_replica_time(values), _steps(values)),
        _slowest(values),
    )


def _throughput(values: Values) -> Markup:
    interval, pairs = values.at("throughput", "interval_s"), values.at("throughput", "pairs")
    if not pairs or not any(pairs):
        return NOTHING
    names = [f"{duration(at * interval)} … {duration((at + 1) * interval)}" for at in range(len(pairs))]
    step = max(1, -(-len(pairs) // _TICKS))
    chart = columns(
        pairs,
        labels=[f"{name}: {count(number)} pairs" for name, number in zip(names, pairs, strict=True)],
        ticks=[(float(at), clock(at * interval)) for at in range(0, len(pairs), step)],
        title="Pairs scored over time",
    )
    rows = [[name, values.number("throughput", "pairs", at)] for at, name in enumerate(names)]
    interval_s = values.number("throughput", "interval_s", shown=duration)
    tokens = joined([values.number("computed_pairs"), " pairs with ", values.number("computed_tokens"), " tokens, "])
    note = joined([tokens, "in intervals of ", interval_s, " since the start."])
    return figure("Pairs scored over time", chart, table(["since the start", "pairs"], rows), note=note)


def _replica_time(values: Values) -> Markup:
    shares = values.at("replica_time")
    if not shares:
        return NOTHING
    rows = [
        [
            joined([swatch(at), " ", _ACTIVITIES.get(name) or values.shown(name)]),
            values.number("replica_time", name, shown=share),
        ]
        for at, name in enumerate(shares)
    ]
    title = "Time of the replicas"
    return titled(title, joined([stack(list(shares.values()), title), table(["activity", "share"], rows)]))


def _steps(values: Values) -> Markup:
    rows = [
        [values.shown(name.replace("_", " ")), values.number("step_s", name, shown=duration)]
        for name in values.first(values.at("step_s"))
    ]
    if not rows:
        return NOTHING
    rows.append([Markup("micro-batches that were halved for lack of memory"), values.number("oom_splits")])
    return titled("Steps, added up over units and replicas", table(["step", "time"], rows))


def _slowest(values: Values) -> Markup:
    at = "slowest_units"
    rows = [
        [
            values.text(at, place, "unit_id"),
            values.number(at, place, "pairs"),
            values.number(at, place, "seconds", shown=duration),
            values.number(at, place, "score_s", shown=duration),
        ]
        for place, _ in enumerate(values.first(values.at(at)))
    ]
    if not rows:
        return NOTHING
    numbers = table(["unit", "candidates", "time", "of it scoring"], rows)
    return titled("Slowest units", numbers)
