"""The rows of a unit as the pipeline takes them, wherever they were read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

DEAD_LETTER_PLACES = pa.schema(
    [
        pa.field("query_at", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("index", pa.int32()),
        pa.field("reason_code", pa.large_string()),
        pa.field("message", pa.large_string()),
    ]
)
"""Candidates that cannot be scored: `query_at` is the position among the unit's queries, `row` the row of the unit,
`index` the place of the candidate among its query's, null for a row that has ids and no texts. `WorkUnit.places_of`
leads from rows to files."""


@dataclass(frozen=True)
class UnitRows:
    """A unit as queries and candidates, both in input order; texts are valid UTF-8 and types canonical.

    queries: `row` (at which row of the unit the query begins), `query_id` (never null), `query` (null where there is no
    usable text), then the passthrough columns of queries.
    candidates: those that can be scored: `query_at` (position in `queries`), `row`, `index`, `doc_id` (never null),
    `document` (never null), then the passthrough columns of candidates.
    dead_letters: all others, as `DEAD_LETTER_PLACES`.
    """

    queries: pa.Table
    candidates: pa.Table
    dead_letters: pa.Table
