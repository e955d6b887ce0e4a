"""The rows of a part in each layout of the output."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from reranker_batch.core.units import request_id_of
from reranker_batch.pipeline.scored import ScoredUnit
from reranker_batch.pipeline.settings import ResultSettings
from reranker_batch.schema import nested_schema, output_field, pairs_schema


def pairs_part(finite: ScoredUnit, kept: pa.Table, settings: ResultSettings) -> tuple[pa.Table, pa.Schema]:
    """A row for each kept candidate."""
    of_query = finite.queries.take(kept["query_at"])
    passthrough = [_passthrough_of(name, kept, of_query) for name in settings.passthrough]
    fields = [output_field(field) for field, _ in passthrough]
    schema = pairs_schema(fields, return_documents=settings.return_documents, has_chunks=settings.has_chunks)
    columns = {name: kept[name] for name in kept.column_names} | {"query_id": of_query["query_id"]}
    columns |= {field.name: values for field, values in passthrough}
    return pa.table({name: columns[name] for name in schema.names}), schema


def _passthrough_of(name: str, kept: pa.Table, of_query: pa.Table) -> tuple[pa.Field, pa.ChunkedArray]:
    source = kept if name in kept.column_names else of_query
    return source.schema.field(name), source[name]


def nested_part(
    finite: ScoredUnit, kept: pa.Table, failures: pa.Table, settings: ResultSettings
) -> tuple[pa.Table, pa.Schema]:
    """A row for each query, with the list of its kept candidates."""
    per_candidate = [name for name in settings.passthrough if name in kept.column_names]
    per_query = [name for name in settings.passthrough if name not in kept.column_names]
    schema = nested_schema(
        [output_field(finite.queries.schema.field(name)) for name in per_query],
        [output_field(kept.schema.field(name)) for name in per_candidate],
        return_documents=settings.return_documents,
        has_chunks=settings.has_chunks,
    )
    names = [field.name for field in schema.field("results").type.value_type]
    structs = pa.StructArray.from_arrays([_flat(kept[name]) for name in names], names)
    offsets = np.searchsorted(kept["query_at"].to_numpy(), np.arange(len(finite.queries) + 1))
    columns = {name: finite.queries[name] for name in finite.queries.column_names}
    columns["results"] = pa.LargeListArray.from_arrays(pa.array(offsets), structs)
    columns |= _places(finite)
    columns |= {name: failures[name] for name in failures.column_names}
    return pa.table({name: columns[name] for name in schema.names}), schema


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _places(finite: ScoredUnit) -> dict[str, pa.Array]:
    """`file`, `row` and `request_ids` of every query."""
    at, rows = finite.unit.places_of(finite.queries["row"].to_numpy())
    spans = finite.unit.spans
    places = zip(at.tolist(), rows.tolist(), finite.queries["requests"].to_pylist(), strict=True)
    ids = [[request_id_of(spans[at].file_index, row, chunk) for chunk in range(count)] for at, row, count in places]
    return {
        "file": pa.array([span.file for span in spans], pa.string()).take(pa.array(at)),
        "row": pa.array(rows),
        "request_ids": pa.array(ids, pa.list_(pa.string())),
    }
