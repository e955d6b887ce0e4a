"""README.md of labels: what they are, of whom, by which rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reranker_batch.labels.reasons import MEANINGS
from reranker_batch.labels.report import LabelReport, scale_text

_COLUMNS = """## Columns of labels/part-*.parquet

`query_id`, `query`, `file` and `row` (the place of the query in the input), `positives` and `negatives`: lists of
`doc_id`, `text`, `index` (place among the candidates), `qrel` (null: not judged), `logits` (of each teacher), `score`,
`margin` (score of the lowest positive less this one) and `decision`, by score, the highest first.
`dropped/part-*.parquet` has the other candidates with `reason`.
"""


def card_of(report: LabelReport) -> str:
    """Markdown. Equal labels give equal text."""
    return "\n".join(
        [
            "# Training labels",
            "",
            f"{report.labelled_queries:,} of {report.queries:,} queries, {report.positives:,} positives, "
            f"{report.negatives:,} negatives. Made by reranker-batch from the scores of its teachers.",
            "",
            _teachers(report),
            _candidates(report),
            _rules(report),
            _COLUMNS,
            f"Fingerprint: `{report.fingerprint}`",
            "",
        ]
    )


def _teachers(report: LabelReport) -> str:
    teachers = report.settings["teachers"]
    rows = [
        (name, _model(teachers[name]), f"{teachers[name]['weight']:g}", scale_text(report.scales[name]))
        for name in report.settings["order"]
    ]
    return _table("Teachers", ("name", "model", "weight", "score"), rows)


def _model(teacher: Mapping[str, Any]) -> str:
    model = teacher["model"]
    revision = f", revision {model['revision']}" if model.get("revision") else ""
    return f"{model.get('name')}{revision} (scoring {teacher['scoring_fingerprint'][:16]})"


def _candidates(report: LabelReport) -> str:
    decisions = report.decisions
    rows = [(fate.code, f"{decisions[fate.code]:,}", MEANINGS[fate]) for fate in MEANINGS if fate.code in decisions]
    return _table(f"What became of {report.candidates:,} candidates", ("decision", "candidates", "meaning"), rows)


def _rules(report: LabelReport) -> str:
    rows = [(f"`labels.{name}`", f"`{value}`") for name, value in _flat(report.settings["labels"], "")]
    return _table("Rules", ("key", "value"), rows)


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    rows = []
    for name, value in values.items():
        rows += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return [(name, "null" if value is None else value) for name, value in rows]


def _table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])
