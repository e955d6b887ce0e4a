"""Scores, lengths and losses: the pairs of all published units."""

from __future__ import annotations

from reranker_batch.page.charts import labelled_bar, titled
from reranker_batch.page.histograms import histogram
from reranker_batch.page.markup import NOTHING, Markup, joined, tag
from reranker_batch.page.tables import facts, section, side_by_side, table
from reranker_batch.page.values import Values, decimal, share

_CAUSES = {
    "query": "the query is longer than max_item_tokens",
    "document": "the document is longer than max_item_tokens",
    "pair": "the pair is longer than max_pair_tokens",
}


def pairs(values: Values) -> Markup:
    """Histograms of all scored pairs, and why texts were cut."""
    scores, tokens = ("histograms", "relevance_score"), ("histograms", "pair_tokens")
    return section(
        "Scores and lengths",
        side_by_side(
            histogram(values, scores, "Relevance scores of the scored pairs", ends=("0", "1")),
            histogram(values, tokens, "Tokens of query and document", whole=True),
        ),
        _truncation(values),
    )


def _truncation(values: Values) -> Markup:
    scored, causes = values.at("totals", "scored"), values.at("truncation")
    if not scored or not causes:
        return NOTHING
    rows = [
        [
            labelled_bar(Markup(_CAUSES.get(cause, "")) or values.shown(cause), number / scored),
            values.number("truncation", cause),
            values.derived(number / scored, share),
        ]
        for cause, number in values.first(causes.items())
    ]
    note = "Scored pairs that lost text, by cause; a pair may count several times."
    return titled("Cut texts", table(["cause", "pairs", "share"], rows), note=note)


def dead_letters(values: Values) -> Markup:
    """Candidates without a score, by reason, with places of a few."""
    reasons = values.at("totals", "dead_letters")
    whole = sum(reasons.values())
    if not whole:
        return NOTHING
    rows = [
        [
            labelled_bar(values.shown(reason), number / whole),
            values.number("totals", "dead_letters", reason),
            values.derived(number / whole, share),
        ]
        for reason, number in values.first(sorted(reasons.items(), key=lambda item: -item[1]))
    ]
    return section(
        "Dead letters",
        table(["reason", "candidates", "share"], rows),
        _examples(values),
        note="Candidates without a score. Each is a whole row in dead_letters/.",
    )


def _examples(values: Values) -> Markup:
    at = "dead_letter_examples"
    rows = [
        [
            *(values.text(at, place, name) for name in ("reason_code", "query_id", "doc_id", "file")),
            values.number(at, place, "row"),
        ]
        for place, _ in enumerate(values.first(values.at(at)))
    ]
    if not rows:
        return NOTHING
    return joined([tag("h3", "Examples"), table(["reason", "query id", "document id", "file", "row"], rows, texts=4)])


def precision(values: Values) -> Markup:
    """What half precision and batching cost, by a second scoring of a sample."""
    if values.at("precision") is None:
        return NOTHING
    at = "precision"
    rows = [
        ("largest difference of a logit", values.number(at, "max_logit_difference", shown=decimal)),
        ("mean difference of a logit", values.number(at, "mean_logit_difference", shown=decimal)),
        ("largest difference of a score", values.number(at, "max_score_difference", shown=decimal)),
        ("ranks in the sample", values.number(at, "places")),
        ("ranks that another candidate takes", values.number(at, "changed_places")),
    ]
    note = joined([values.number(at, "pairs"), " pairs of this attempt were scored again in float32, one at a time."])
    return section("Precision", facts(rows), note=note)
