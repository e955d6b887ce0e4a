"""JSON lines: a line for each query, with everything that the output has."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.errors import ConfigError
from reranker_batch.exporting.finished import FinishedOutput
from reranker_batch.exporting.formats import Exported, Format, Options, in_one_file
from reranker_batch.storage.output.ranked_lists import read_results


def _write(output: FinishedOutput, options: Options, exported: Exported) -> Iterator[bytes]:
    """`{"query_id", "results": [{"doc_id", "index", "rank", …}, …], …}`: nothing is left out, no id merged.

    Dates and times are texts in ISO 8601, decimals are texts, and numbers that JSON does not have are null.
    """
    for table in read_results(output.folder):
        _refuse_bytes(table.schema)
        lengths = pc.list_value_length(table["results"])
        exported.queries += len(table)
        exported.documents += pc.sum(lengths).as_py() or 0
        lines = io.BytesIO()
        pl.DataFrame(pl.from_arrow(table)).write_ndjson(lines)
        yield lines.getvalue()
    exported.empty_queries = output.report.totals.queries - exported.queries


def _refuse_bytes(schema: pa.Schema) -> None:
    for field in schema:
        if (name := _bytes_in(field)) is not None:
            raise ConfigError(
                f"Column {name!r} of the output holds bytes, which JSON has no form for. Read the Parquet files, or "
                "leave the column out of input.columns.passthrough."
            )


def _bytes_in(field: pa.Field) -> str | None:
    """The name of the field that holds bytes, here or further in."""
    kind = field.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return str(field.name)
    inner = (_bytes_in(kind.field(at)) for at in range(kind.num_fields))
    return next((field.name if name in ("item", "element", "key", "value") else name for name in inner if name), None)


JSONL = Format("jsonl", in_one_file(_write))
