"""What a reader wants first: the status, the main figures, what was computed with what."""

from __future__ import annotations

from reranker_batch.page.charts import bar
from reranker_batch.page.markup import NOTHING, Markup, joined, tag
from reranker_batch.page.tables import facts, items, section, table, tiles
from reranker_batch.page.values import Values, decimal, duration, share
from reranker_batch.storage.output.gate import Gate

_NOT_SERVED = "The output is not served until somebody accepts it with reranker-batch accept."
_RESUMED = "The same command resumes it."
_STATES = {
    "complete": ("Complete", "good", "All units are published. The output may be served."),
    "too_many_failed": ("Too many dead letters", "bad", f"All units are published. {_NOT_SERVED}"),
    "gated": ("Stopped by a gate", "bad", f"All units are published. {_NOT_SERVED}"),
    "failed": ("Failed", "bad", f"The run did not come to its end. {_RESUMED}"),
    "interrupted": ("Interrupted", "warn", f"The run was stopped. {_RESUMED}"),
}


def head(values: Values, gate: Gate | None) -> Markup:
    """The status in one word, then why, and how far the run came."""
    title, kind, sentence = _STATES[values.at("status")]
    reasons: list[Markup] = [values.shown(values.at("message"))] if values.at("message") else []
    if gate is not None and gate.accepted is not None and gate.exit_code == values.at("exit_code"):
        title, kind = "Accepted", "good"
        accepted = [values.shown(gate.accepted.by), " at ", values.shown(gate.accepted.at)]
        sentence = "The output may be served, in spite of the reason below."
        reasons.insert(0, joined(["Accepted by ", *accepted, "."]))
    return tag(
        "header",
        tag("p", "reranker-batch run", class_="kicker"),
        tag("h1", values.text("output")),
        tag("p", _badge(title, kind), tag("span", sentence), class_="status"),
        *(tag("p", reason, class_="reason") for reason in reasons),
        _progress(values),
    )


def _progress(values: Values) -> Markup:
    published, units = values.at("units_published"), values.at("units")
    if published == units:
        return NOTHING
    shown = tag("p", values.number("units_published"), " of ", values.number("units"), " units are published.")
    return joined([shown, bar(published / units if units else 0.0)])


def figures(values: Values) -> Markup:
    scored, wall_s = values.at("computed_pairs"), values.at("wall_s")
    pace = joined(["in this attempt: ", values.derived(scored / wall_s if wall_s else None, decimal), " pairs/s"])
    dead_letters = sum(values.at("totals", "dead_letters").values())
    return tiles(
        [
            (
                "queries",
                values.number("totals", "queries"),
                joined([values.number("totals", "failed_queries"), " failed"]),
            ),
            ("pairs scored", values.number("totals", "scored"), joined(["of ", values.number("totals", "candidates")])),
            ("kept", values.number("totals", "kept"), "in the output"),
            ("dead letters", values.derived(dead_letters), _of_all(values, dead_letters, "candidates")),
            (
                "cut texts",
                values.number("totals", "truncated"),
                _of_all(values, values.at("totals", "truncated"), "scored"),
            ),
            ("time", values.number("wall_s", shown=duration), pace),
        ]
    )


def _of_all(values: Values, number: int, whole: str) -> Markup:
    all_ = values.at("totals", whole)
    return joined([values.derived(number / all_ if all_ else 0.0, share), f" of {_WHOLES[whole]}"])


_WHOLES = {"candidates": "all candidates", "scored": "scored pairs"}


def gates(values: Values) -> Markup:
    """Limits that the finished output must keep."""
    rows = [
        [
            _gate(values, at),
            values.text("gates", at, "limit"),
            values.number("gates", at, "value", shown=share if str(gate["limit"]).endswith("%") else decimal),
            _badge("met", "good") if gate["is_met"] else _badge("not met", "bad"),
        ]
        for at, gate in enumerate(values.first(values.at("gates") or []))
    ]
    return section("Gates", table(["gate", "limit", "value", ""], rows)) if rows else NOTHING


def _gate(values: Values, at: int) -> Markup:
    message = values.at("gates", at, "message")
    return joined([values.text("gates", at, "key"), tag("small", values.shown(message)) if message else NOTHING])


def _badge(text: str, kind: str) -> Markup:
    return tag("span", text, class_=f"badge {kind}")


def troubles(values: Values) -> Markup:
    """Warnings, files and units that are missing, and units that were tried again."""
    return joined(
        [
            _listed(
                values, "Warnings", [values.shown(text) for text in values.first(values.at("warnings"))], "warnings"
            ),
            _listed(
                values,
                "Skipped files",
                [
                    joined([values.shown(name), ": ", values.shown(why)])
                    for name, why in values.first(values.at("skipped_files").items())
                ],
                "skipped_files",
            ),
            _listed(
                values, "Missing units", [values.shown(unit) for unit in values.first(values.at("missing"))], "missing"
            ),
            _attempts(values),
        ]
    )


def _listed(values: Values, title: str, rows: list[Markup], key: str) -> Markup:
    return section(title, items(rows), values.more(len(values.at(key)))) if rows else NOTHING


def _attempts(values: Values) -> Markup:
    """Units that took more than one, the most stubborn first."""
    attempts = sorted(values.at("attempts").items(), key=lambda unit: (-unit[1], unit[0]))
    rows = [[values.shown(unit), values.number("attempts", unit)] for unit, _ in values.first(attempts)]
    if not rows:
        return NOTHING
    return section("Units that were tried again", table(["unit", "attempts"], rows), values.more(len(attempts)))


def job(values: Values) -> Markup:
    """Model, limits, engine and versions."""
    versions = [(name, values.shown(version)) for name, version in values.first(values.at("versions").items())]
    return section(
        "What was computed with what",
        facts(_facts_of_job(values)),
        tag("h3", "Limits"),
        facts(_limits(values)),
        _executions(values),
        tag("h3", "Versions"),
        facts(versions),
    )


def _facts_of_job(values: Values) -> list[tuple[str, Markup]]:
    published = [values.number("units_published"), " of ", values.number("units")]
    return [
        ("model", values.text("job", "model", "name")),
        ("revision", values.text("job", "model", "revision")),
        ("recipe", values.text("job", "model", "recipe")),
        ("precision", values.text("job", "model", "dtype")),
        ("input", values.text("job", "input")),
        ("candidates kept of a query", values.number("job", "top_n") if values.at("job", "top_n") else Markup("all")),
        ("engine", joined([values.text("job", "engine"), ", replicas: ", values.number("replicas")])),
        ("units", joined([*published, ", ", values.number("units_skipped"), " from an earlier attempt"])),
        ("exit code", values.number("exit_code")),
        ("fingerprint", values.text("job", "fingerprint")),
    ]


def _limits(values: Values) -> list[tuple[str, Markup]]:
    names = values.first(values.at("job", "limits") or {})
    return [
        *((name.replace("_", " "), _limit(values, name)) for name in names),
        ("documents read in chunks", values.number("totals", "split")),
        ("of these, not all read", values.number("totals", "split_not_all_read")),
        ("of these, best in a later chunk", values.number("totals", "best_chunk_not_first")),
        ("requests", values.number("totals", "requests")),
        ("tokens of requests", values.number("totals", "total_tokens")),
        ("tokens that the model read", values.number("totals", "model_tokens")),
    ]


def _executions(values: Values) -> Markup:
    rows = [[values.shown(name), values.number("executions", name)] for name in values.first(values.at("executions"))]
    if not rows:
        return NOTHING
    return joined([tag("h3", "Execution"), table(["how the logits were computed", "units"], rows)])


def _limit(values: Values, name: str) -> Markup:
    value = values.at("job", "limits", name)
    if isinstance(value, int):
        return values.number("job", "limits", name)
    return Markup("none") if value is None else values.shown(value)
