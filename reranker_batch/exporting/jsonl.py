"""JSON lines: a line for each query, with everything that the output has."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.errors import ConfigError, first_line
from reranker_batch.exporting.finished import FinishedOutput
from reranker_batch.exporting.formats import Exported, Format, Options, in_one_file
from reranker_batch.schema import is_list_like, is_string_like
from reranker_batch.storage.output.ranked_lists import read_results

_WRITTEN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal128,
    pa.types.is_date32,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
    pa.types.is_null,
)


def _write(output: FinishedOutput, options: Options, exported: Exported) -> Iterator[bytes]:
    """`{"query_id", "results": [{"doc_id", "index", "rank", …}, …], …}`: nothing is left out, no id merged.

    Dates and times are texts in ISO 8601, decimals are texts, and numbers that JSON does not have are null.
    """
    for table in read_results(output.folder):
        _refuse_others(table.schema)
        lengths = pc.list_value_length(table["results"])
        exported.queries += len(table)
        exported.documents += pc.sum(lengths).as_py() or 0
        yield _lines(table)
    exported.empty_queries = output.report.totals.queries - exported.queries


def _lines(table: pa.Table) -> bytes:
    lines = io.BytesIO()
    try:
        pl.DataFrame(pl.from_arrow(table)).write_ndjson(lines)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # such as a year that has no calendar
        raise ConfigError(f"A value has no form in JSON: {first_line(error)}. Read the Parquet files.") from error
    return lines.getvalue()


def _refuse_others(schema: pa.Schema) -> None:
    """Raises ConfigError for a column that JSON has no form for, or more than one."""
    results = schema.field("results").type.value_type
    for field in [*results, *(field for field in schema if field.name != "results")]:
        if (kind := _without_form(field.type)) is not None:
            raise ConfigError(
                f"Column {field.name!r} of the output holds values of type {kind}, which JSON has no form for. Read "
                "the Parquet files, or leave the column out of input.columns.passthrough."
            )


def _without_form(kind: pa.DataType) -> pa.DataType | None:
    """The first type here or further in that is not written: bytes, maps, wide decimals, intervals."""
    if is_list_like(kind):
        return _without_form(kind.value_type)
    if pa.types.is_struct(kind):
        return next((other for field in kind if (other := _without_form(field.type)) is not None), None)
    return None if is_string_like(kind) or any(is_written(kind) for is_written in _WRITTEN) else kind


JSONL = Format("jsonl", in_one_file(_write))
