"""What a preparation came to, for a person."""

from __future__ import annotations

from reranker_batch.preparing.record import MISSING, PreparedRecord


def summary_rows(record: PreparedRecord) -> list[tuple[str, str]]:
    """Names and values; the counts of rows add up."""
    counts = record.counts
    if counts is None:
        return [("state", "not complete: the same command goes on")]
    left_out = {
        "missing document": counts.missing_documents,
        "missing query": counts.missing_queries,
        "cut by depth": counts.cut_by_depth,
        "there twice": counts.repeated,
        "document is the query": counts.identical,
    }
    parts = [f"{counts.candidates:,} candidates", *(f"{count:,} {name}" for name, count in left_out.items() if count)]
    doubled = counts.duplicate_queries + counts.duplicate_documents
    is_listed = counts.missing_documents + counts.missing_queries + doubled
    return [
        ("rows", f"{counts.rows:,} = {' + '.join(parts)}"),
        ("queries", f"{counts.queries:,}"),
        ("read", f"{counts.query_rows:,} queries, {counts.corpus_rows:,} documents"),
        ("parts", f"{record.parts:,}"),
        *([("ids twice", f"{doubled:,} rows left out: the first counts")] if doubled else []),
        *([("listed in", MISSING)] if is_listed else []),
    ]
