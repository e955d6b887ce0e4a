"""The rows of a unit, those that can be scored apart from those that cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.errors import InputError
from reranker_batch.storage.input.candidates import Cause, UnitCandidates, UnitTable
from reranker_batch.storage.input.columns import InputColumns
from reranker_batch.storage.input.layout import InputLayout

_REASONS = {
    Cause.NULL_QUERY: ("null_query", "The query is null."),
    Cause.INVALID_QUERY: ("invalid_utf8", "The query, its id or a passthrough column is not valid UTF-8."),
    Cause.UNEQUAL_LISTS: ("unequal_lists", "The lists of texts and ids differ in length:"),
    Cause.TEXT_DIFFERS: ("query_text_differs", "The query text is not the one of its query id:"),
    Cause.MISSING_QUERY: ("missing_query", "The queries have no text with this id."),
    Cause.MISSING_DOCUMENT: ("missing_document", "The corpus has no text with this id."),
    Cause.NULL_DOCUMENT: ("null_document", "The document is null."),
    Cause.INVALID_DOCUMENT: ("invalid_utf8", "The document, its id or a passthrough column is not valid UTF-8."),
}
_DETAILED = (Cause.UNEQUAL_LISTS, Cause.TEXT_DIFFERS)


def unit_rows(rows: pa.Table, layout: InputLayout, columns: InputColumns, unit: WorkUnit) -> UnitRows:
    """Take the rows of a unit apart. Each column of `rows` is one chunk of a canonical type.

    Raises:
        InputError: A value does not fit the type that its column has over all files.
    """
    whole = unit_candidates(rows, layout, columns, unit)
    is_good = whole.cause == Cause.NONE
    candidates = whole.candidates if is_good.all() else whole.candidates.filter(pa.array(is_good))
    return UnitRows(whole.queries, candidates, _dead_letters(whole))


def unit_candidates(rows: pa.Table, layout: InputLayout, columns: InputColumns, unit: WorkUnit) -> UnitCandidates:
    """All candidates of a unit, good and bad.

    Raises:
        InputError: As `unit_rows`.
    """
    try:
        return layout.candidates(UnitTable(rows, unit), columns)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{_misfitting(rows, layout, columns, unit)} have a value that does not fit the type which its column has "
            f"over all files: {error}. Write the column with one type.",
            unit_id=unit.unit_id,
        ) from None


def _misfitting(rows: pa.Table, layout: InputLayout, columns: InputColumns, unit: WorkUnit) -> str:
    """The rows of the first file whose values do not fit."""
    for span, start in zip(unit.spans, unit.offsets.tolist(), strict=False):
        part = UnitTable(rows.slice(start, span.num_rows), replace(unit, spans=(span,)))
        try:
            layout.candidates(part, columns)
        except pa.ArrowInvalid:
            return str(span)
    return unit.shown


def _dead_letters(whole: UnitCandidates) -> pa.Table:
    bad = np.flatnonzero(whole.cause)
    places = whole.candidates.select(["query_at", "row", "index"]).take(pa.array(bad))
    causes = [Cause(value) for value in whole.cause[bad].tolist()]
    messages = [_message(whole, cause, int(at)) for cause, at in zip(causes, bad, strict=True)]
    return (
        places.append_column("reason_code", pa.array([_REASONS[cause][0] for cause in causes], pa.large_string()))
        .append_column("message", pa.array(messages, pa.large_string()))
        .cast(DEAD_LETTER_PLACES)
    )


def _message(whole: UnitCandidates, cause: Cause, at: int) -> str:
    text = _REASONS[cause][1]
    if cause not in _DETAILED:
        return text
    return f"{text} {whole.details[whole.candidates['row'][at].as_py()]}"
