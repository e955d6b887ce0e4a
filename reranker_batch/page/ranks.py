"""What moved, and whether it got better."""

from __future__ import annotations

from reranker_batch.page.histograms import histogram
from reranker_batch.page.markup import NOTHING, Markup, joined, tag
from reranker_batch.page.tables import facts, folded, items, section, side_by_side, table
from reranker_batch.page.values import Step, Values, decimal, fixed, share, signed

_METRICS = {"ndcg_at_10": "nDCG@10", "rr_at_10": "RR@10", "recall_at_10": "R@10"}


def movement(values: Values) -> Markup:
    """Movement since an earlier output, then since the first stage."""
    earlier = ("movement",)
    lead = joined(["Compared with ", values.text("movement", "compared_with"), "."])
    return joined(
        [
            _movement(values, earlier, "Movement since an earlier output", lead),
            _movement(
                values,
                ("movement_first_stage",),
                "Movement since the first stage",
                "Compared with the order in which the candidates came.",
            ),
        ]
    )


def _movement(values: Values, path: tuple[Step, ...], title: str, note: str) -> Markup:
    if values.at(*path) is None:
        return NOTHING
    if not values.at(*path, "queries"):
        return section(title, tag("p", "No query could be compared."), note=note)
    names = {
        "queries": "queries compared",
        "changed_queries": "queries whose first ten changed",
        "queries_only_before": "queries only before",
        "queries_only_after": "queries only now",
        "documents_before": "documents before",
        "documents_after": "documents now",
        "documents_in_both": "documents in both",
        "documents_in": "documents that came in",
        "documents_out": "documents that went out",
        "moved_up": "documents that moved up",
        "moved_down": "documents that moved down",
        "repeated_queries": "repeated queries",
        "repeated_documents": "repeated documents",
    }
    rows = [(name, values.number(*path, key)) for key, name in names.items()]
    rows.insert(2, ("share of changed queries", values.number(*path, "changed_share", shown=share)))
    return section(
        title,
        facts(rows),
        side_by_side(
            histogram(values, (*path, "overlap_at_10"), "Overlap of a query's first ten documents", ends=("0", "1")),
            histogram(values, (*path, "places"), "Places that a document moved up; negative: down", whole=True),
            histogram(values, (*path, "rank_biased_overlap"), "Rank-biased overlap of a query", ends=("0", "1")),
            histogram(values, (*path, "kendall_tau_b"), "Kendall's tau-b of a query", ends=("-1", "1")),
        ),
        _largest_moves(values, (*path, "largest_moves")),
        note=note,
    )


def _largest_moves(values: Values, path: tuple[Step, ...]) -> Markup:
    rows = [
        [
            values.text(*path, at, "query_id"),
            values.text(*path, at, "doc_id"),
            *(values.number(*path, at, name) for name in ("rank_before", "rank_after", "places")),
        ]
        for at, _ in enumerate(values.first(values.at(*path) or []))
    ]
    if not rows:
        return NOTHING
    header = ["query id", "document id", "rank before", "rank now", "places up"]
    return folded("Largest moves", table(header, rows, texts=2))


def metrics(values: Values) -> Markup:
    """By relevance judgments."""
    if values.at("metrics") is None:
        return NOTHING
    means = [
        [Markup(_METRICS.get(name, "")) or values.shown(name), values.number("metrics", "means", name, shown=fixed)]
        for name in values.first(values.at("metrics", "means") or {})
    ]
    note = joined([values.number("metrics", "queries"), " queries judged by ", values.text("metrics", "qrels"), "."])
    return section(
        "Quality by relevance judgments",
        table(["metric", "mean"], means),
        _changes(values, "since_earlier", joined(["Since ", values.text("metrics", "compared_with")])),
        _changes(values, "since_first_stage", Markup("Since the first stage")),
        note=note,
    )


def _changes(values: Values, key: str, title: Markup) -> Markup:
    changes = values.at("metrics", key)
    if not changes:
        return NOTHING
    rows = [_change(values, ("metrics", key, name)) for name in values.first(changes)]
    header = ["metric", "before", "now", "difference", "95 % interval", "p", "better", "worse"]
    test = next((change.get("test") for change in changes.values()), "")
    details = [_queries(values, ("metrics", key, name)) for name in values.first(changes)]
    return joined([tag("h3", title), tag("p", values.shown(test), class_="note"), table(header, rows), *details])


def _change(values: Values, path: tuple[Step, ...]) -> list[Markup]:
    interval = [values.number(*path, "confidence_95", at, shown=signed) for at in range(2)]
    return [
        Markup(_METRICS.get(str(path[-1]), "")) or values.shown(path[-1]),
        values.number(*path, "before", shown=fixed),
        values.number(*path, "after", shown=fixed),
        values.number(*path, "difference", shown=signed),
        joined([interval[0], " … ", interval[1]]),
        values.number(*path, "p_value", shown=decimal),
        values.number(*path, "better"),
        values.number(*path, "worse"),
    ]


def _queries(values: Values, path: tuple[Step, ...]) -> Markup:
    """The queries that lost most and gained most."""
    rows = [
        [
            values.text(*path, key, at, "query_id"),
            *(values.number(*path, key, at, side, shown=fixed) for side in ("before", "after")),
        ]
        for key in ("largest_losses", "largest_gains")
        for at, _ in enumerate(values.first(values.at(*path, key) or []))
    ]
    name = _METRICS.get(str(path[-1])) or str(path[-1])
    differences = histogram(values, (*path, "differences"), f"Difference in {name} of a query", ends=("-1", "1"))
    if not rows and not differences:
        return NOTHING
    lists = [table(["query id", "before", "now"], rows)] if rows else []
    return folded(f"{name}: queries that lost most, then those that gained most", differences, *lists)


def reuse(values: Values) -> Markup:
    """Scores that were taken from an earlier output."""
    if values.at("reuse") is None:
        return NOTHING
    rows = [
        ("earlier output", values.text("reuse", "source")),
        ("scored pairs with a reused score", values.number("reused")),
        ("all other scored pairs", values.number("rescored")),
        ("reused share", values.number("reused_share", shown=share)),
    ]
    refused = [values.shown(why) for why in values.first(values.at("reuse", "refused") or [])]
    why = [tag("h3", "Why no score is reused"), items(refused)] if refused else []
    return section("Reuse of scores", facts(rows), *why, _check(values))


def _check(values: Values) -> Markup:
    """The sample of reused pairs that was scored again."""
    at = "reuse_check"
    if values.at(at) is None:
        return NOTHING
    rows = [
        ("result", Markup("accepted" if values.at(at, "is_within") else "rejected")),
        ("pairs scored again", values.number(at, "pairs")),
        ("largest difference of a logit", values.number(at, "max_logit_difference", shown=decimal)),
        ("allowed difference", values.number(at, "tolerance", shown=decimal)),
    ]
    return joined([tag("h3", "Check of a sample"), facts(rows)])
