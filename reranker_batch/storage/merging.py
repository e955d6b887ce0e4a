"""Whether the files of an input agree, and what they hold together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.storage.columns import FileColumns, InputColumns, Shape, id_family, quoted


def merge_columns(files: Iterable[tuple[str, FileColumns]]) -> InputColumns:
    """Bring the files together.

    Raises:
        InputError: Two files disagree. Names both, and what each holds.
    """
    listed = list(files)
    shape = _agreed({name: held.shape for name, held in listed if held.shape}, "candidates as")
    query_ids = {name: held.query_id for name, held in listed if held.query_id is not None}
    doc_ids = {name: held.doc_id for name, held in listed if held.doc_id is not None}
    _refuse_mixed_ids("query", query_ids)
    _refuse_mixed_ids("document", doc_ids)
    query_fields = _merged([(name, held.query_passthrough) for name, held in listed])
    candidate_fields = _merged([(name, held.candidate_passthrough) for name, held in listed])
    if twice := {field.name for field in query_fields} & {field.name for field in candidate_fields}:
        raise InputError(
            f"Passthrough {quoted(sorted(twice))} is a column in one file and a field of the candidates in another, "
            "so it is not clear which is meant. Rename one of them."
        )
    return InputColumns(shape or "structs", bool(query_ids), bool(doc_ids), query_fields, candidate_fields)


def _refuse_mixed_ids(what: str, types: Mapping[str, pa.DataType]) -> None:
    families = {file: id_family(held) for file, held in types.items()}
    if len({family for family in families.values() if family != "null"}) < 2:
        return
    first, second = _two_that_differ({file: family for file, family in families.items() if family != "null"})
    raise InputError(
        f"The {what} ids are {types[first]} in {first} but {types[second]} in {second}, so equal ids could look "
        "different. Write them with one type."
    )


def _agreed(held: Mapping[str, Shape], what: str) -> Shape | None:
    if len(set(held.values())) > 1:
        first, second = _two_that_differ(held)
        raise InputError(
            f"{first} holds {what} {held[first]} but {second} as {held[second]}. Give them the same layout."
        )
    return next(iter(held.values()), None)


def _two_that_differ(held: Mapping[str, object]) -> tuple[str, str]:
    first = next(iter(held))
    return first, next(name for name, value in held.items() if value != held[first])


def _merged(files: list[tuple[str, Mapping[str, pa.DataType]]]) -> tuple[pa.Field, ...]:
    """Fields by name, in the order of the config, each with a type that holds the values of every file."""
    types: dict[str, pa.DataType] = {}
    origin: dict[str, str] = {}
    for file, held in files:
        for name, data_type in held.items():
            try:
                types[name] = _wider(types.get(name, data_type), data_type)
            except pa.ArrowTypeError:
                raise InputError(
                    f"Passthrough {name!r} is {types[name]} in {origin[name]} but {data_type} in {file}. "
                    "Write it with one type."
                ) from None
            origin.setdefault(name, file)
    return tuple(pa.field(name, data_type) for name, data_type in types.items())


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    schemas = [pa.schema([("value", first)]), pa.schema([("value", second)])]
    return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
