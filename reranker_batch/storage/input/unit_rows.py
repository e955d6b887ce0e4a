"""The rows of a unit, those that can be scored apart from those that cannot."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reranker_batch.config import Columns
from reranker_batch.core.unit_rows import REJECT_SCHEMA, UnitRows
from reranker_batch.core.units import WorkUnit
from reranker_batch.storage.input.candidates import Cause, UnitCandidates, unit_candidates
from reranker_batch.storage.input.columns import InputColumns

_REASONS = {
    Cause.NULL_QUERY: ("null_query", "The query is null."),
    Cause.INVALID_QUERY: ("invalid_utf8", "The query, its id or a column carried with it is not valid UTF-8."),
    Cause.UNEQUAL_LISTS: ("unequal_lists", "The lists of texts and ids differ in length:"),
    Cause.TEXT_DIFFERS: ("query_text_differs", "The query text is not the one of its query id:"),
    Cause.NULL_DOCUMENT: ("null_document", "The document is null."),
    Cause.INVALID_DOCUMENT: ("invalid_utf8", "The document, its id or a column carried with it is not valid UTF-8."),
}
_DETAILED = (Cause.UNEQUAL_LISTS, Cause.TEXT_DIFFERS)


def unit_rows(rows: pa.Table, names: Columns, columns: InputColumns, unit: WorkUnit) -> UnitRows:
    """Take the rows of a unit apart. Each column of `rows` is one chunk of a canonical type.

    Raises:
        InputError: A value does not fit the type that its column has over all files.
    """
    found = unit_candidates(rows, names, columns, unit)
    is_good = found.cause == Cause.NONE
    candidates = found.candidates if is_good.all() else found.candidates.filter(pa.array(is_good))
    return UnitRows(found.queries, candidates, _rejects(found))


def _rejects(found: UnitCandidates) -> pa.Table:
    bad = np.flatnonzero(found.cause)
    places = found.candidates.select(["query_at", "row", "index"]).take(pa.array(bad))
    causes = [Cause(value) for value in found.cause[bad].tolist()]
    messages = [_message(found, cause, int(at)) for cause, at in zip(causes, bad, strict=True)]
    return (
        places.append_column("reason_code", pa.array([_REASONS[cause][0] for cause in causes], pa.large_string()))
        .append_column("message", pa.array(messages, pa.large_string()))
        .cast(REJECT_SCHEMA)
    )


def _message(found: UnitCandidates, cause: Cause, at: int) -> str:
    text = _REASONS[cause][1]
    if cause not in _DETAILED:
        return text
    return f"{text} {found.details[found.candidates['row'][at].as_py()]}"
