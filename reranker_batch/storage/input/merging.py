"""Whether the files of an input agree, and the columns of all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.storage.input.columns import FileColumns, InputColumns, Shape, id_family, quoted
from reranker_batch.storage.input.promotion import Range, common_type, keeps_values


def merge_columns(files: Iterable[tuple[str, FileColumns]], passthrough: Iterable[str]) -> InputColumns:
    """Bring the files together. A name of `passthrough` that no file has, as none has candidates, is all null.

    Raises:
        InputError: Two files disagree. Names both, and the type of each.
    """
    listed = list(files)
    shape = _agreed({name: columns.shape for name, columns in listed if columns.shape}, "candidates as")
    query_ids = {name: columns.query_id for name, columns in listed if columns.query_id is not None}
    doc_ids = {name: columns.doc_id for name, columns in listed if columns.doc_id is not None}
    _refuse_mixed_ids("query", query_ids)
    _refuse_mixed_ids("document", doc_ids)
    query_fields = _merged([(name, columns.query_passthrough, columns.ranges) for name, columns in listed])
    candidate_fields = _merged([(name, columns.candidate_passthrough, columns.ranges) for name, columns in listed])
    if twice := {field.name for field in query_fields} & {field.name for field in candidate_fields}:
        raise InputError(
            f"Passthrough {quoted(sorted(twice))} is a column in one file and a field of the candidates in another, "
            "so it is not clear which is meant. Rename one of them."
        )
    known = {field.name for field in (*query_fields, *candidate_fields)}
    candidate_fields += tuple(pa.field(name, pa.null()) for name in passthrough if name not in known)
    return InputColumns(shape or "structs", query_fields, candidate_fields)


def _refuse_mixed_ids(what: str, types: Mapping[str, pa.DataType]) -> None:
    families = {file: id_family(data_type) for file, data_type in types.items()}
    if len({family for family in families.values() if family != "null"}) < 2:
        return
    first, second = _two_that_differ({file: family for file, family in families.items() if family != "null"})
    raise InputError(
        f"The {what} ids are {types[first]} in {first} but {types[second]} in {second}, so equal ids could look "
        "different. Write them with one type."
    )


def _agreed(shapes: Mapping[str, Shape], what: str) -> Shape | None:
    if len(set(shapes.values())) > 1:
        first, second = _two_that_differ(shapes)
        raise InputError(
            f"{first} holds {what} {shapes[first]} but {second} as {shapes[second]}. Give them the same layout."
        )
    return next(iter(shapes.values()), None)


def _two_that_differ(values: Mapping[str, object]) -> tuple[str, str]:
    first = next(iter(values))
    return first, next(name for name, value in values.items() if value != values[first])


def _merged(files: list[tuple[str, Mapping[str, pa.DataType], Mapping[str, Range]]]) -> tuple[pa.Field, ...]:
    """Fields by name, in the order of the config, each with a type that holds the values of every file."""
    names = dict.fromkeys(name for _, types, _ in files for name in types)
    columns = {
        name: [_FileColumn(file, types[name], ranges.get(name)) for file, types, ranges in files if name in types]
        for name in names
    }
    return tuple(pa.field(name, _merged_type(name, columns[name])) for name in names)


@dataclass(frozen=True)
class _FileColumn:
    """A passthrough column of one file; `seen` is None where nothing is known of its values."""

    file: str
    type: pa.DataType
    seen: Range | None


def _merged_type(name: str, files: list[_FileColumn]) -> pa.DataType:
    merged = files[0].type
    for column in files:
        wider = common_type(merged, column.type)
        if wider is None:
            raise _disagreement(name, _first_against(column, files), column, "")
        merged = wider
    for column in files:
        if not keeps_values(column.type, merged, column.seen):
            reason = f", and as {merged} values of {column.file} could change"
            raise _disagreement(name, _first_against(column, files), column, reason)
    return merged


def _first_against(column: _FileColumn, files: list[_FileColumn]) -> _FileColumn:
    """The file that does not go together with this one; where only several do not, one of another type."""
    together = [(other, common_type(other.type, column.type)) for other in files if other.type != column.type]
    for other, data_type in together:
        if data_type is None or not keeps_values(column.type, data_type, column.seen):
            return other
    return together[0][0]


def _disagreement(name: str, first: _FileColumn, second: _FileColumn, reason: str) -> InputError:
    return InputError(
        f"Passthrough {name!r} is {first.type} in {first.file} but {second.type} in {second.file}{reason}. "
        "Write it with one type."
    )
