"""The files that a table of Iceberg has now, by its metadata file and without a catalog."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Set
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import fs

from reranker_batch.errors import InputError, RerankerBatchError, first_line
from reranker_batch.schema import is_list_like
from reranker_batch.storage.files.filesystem import is_inside, join
from reranker_batch.storage.input.table_formats import (
    PLAIN,
    FieldNames,
    Kind,
    Names,
    TableFiles,
    metadata_files,
    missing_extra,
    refusal,
)
from reranker_batch.uris import is_uri

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.types import NestedField

_KIND: Kind = "Iceberg"
_FIELD_ID = b"PARQUET:field_id"


def iceberg_files(filesystem: fs.FileSystem, folder: str, metadata_file: str | None = None) -> TableFiles:
    """The files of the current snapshot, by the metadata file given, else by the newest.

    The table may have been moved as a whole: its files are looked for below `folder`, wherever it stood once.

    Raises:
        ConfigError: The extra `iceberg` is not installed.
        InputError: The metadata cannot be read, or reading the files alone would give other rows than the table.
    """
    try:
        import pyiceberg.io.pyarrow  # noqa: F401
    except ImportError:
        raise missing_extra(folder, _KIND, "iceberg") from None
    try:
        metadata = _metadata(filesystem, metadata_file or _newest(filesystem, folder))
        sizes = dict(_files(filesystem, folder, metadata))
    except RerankerBatchError:
        raise
    except Exception as error:  # the library lets errors of its parsers through
        raise refusal(folder, _KIND, f"Its metadata cannot be read: {first_line(error)}") from error
    return TableFiles(folder, _KIND, sizes, _field_names(metadata))


def refuse_other_names(table: FieldNames, file: str, schema: pa.Schema, asked: Set[str]) -> None:
    """Compare the names of a file's columns with what the table calls them now, as far as they are asked for.

    `schema` has the ids of the fields in its metadata, as pyarrow gives them.

    Raises:
        InputError: A column was renamed, or dropped and added again, since the file was written.
    """
    used = {*table.by_id.values()}
    for number, names in _numbered(schema, ()):
        now = table.by_id.get(number) if number is not None else names if table.never_changed else None
        is_gone = now is None and names not in used
        if now != names and not is_gone and asked & {names[0], (now or names)[0]}:
            raise InputError(
                f"Column {'.'.join(names)!r} of {file} is not the one that the table calls so now: it was renamed, or "
                f"dropped and added again. Run rewrite_data_files on the table. {PLAIN}"
            )


def _numbered(fields: Iterable[pa.Field], owner: Names) -> Iterator[tuple[int | None, Names]]:
    for field in fields:
        number = (field.metadata or {}).get(_FIELD_ID)
        names = (*owner, field.name)
        yield None if number is None else int(number), names
        data_type = field.type
        if pa.types.is_struct(data_type):
            yield from _numbered(data_type, names)
        elif is_list_like(data_type):
            yield from _numbered([data_type.value_field.with_name("element")], names)


def _newest(filesystem: fs.FileSystem, folder: str) -> str:
    """The metadata file with the highest number in its name.

    Raises:
        InputError: Two have it, so that only the catalog knows which is the table's.
    """
    numbered: dict[int, list[str]] = {}
    for path in metadata_files(filesystem, folder):
        if number := re.match(r"v?(\d+)", posixpath.basename(path)):
            numbered.setdefault(int(number[1]), []).append(path)
    if not numbered:
        raise refusal(folder, _KIND, "None of its metadata files has a number in its name: give one as input.path")
    newest = numbered[max(numbered)]
    if len(newest) > 1:
        names = " and ".join(sorted(posixpath.basename(path) for path in newest))
        raise refusal(folder, _KIND, f"{names} may both be its newest state: give one of these files as input.path")
    return newest[0]


def _metadata(filesystem: fs.FileSystem, path: str) -> TableMetadata:
    from pyiceberg.io.pyarrow import PyArrowFile
    from pyiceberg.serializers import FromInputFile

    return FromInputFile.table_metadata(PyArrowFile(path, path, filesystem))


def _files(filesystem: fs.FileSystem, folder: str, metadata: TableMetadata) -> Iterator[tuple[str, int]]:
    from pyiceberg.manifest import FileFormat, ManifestContent

    snapshot = metadata.current_snapshot()
    if snapshot is None:
        raise InputError(f"{folder} is a table of {_KIND} without rows. Check input.path.")
    io = _file_io(filesystem, folder, metadata.location)
    for manifest in snapshot.manifests(io):
        entries = manifest.fetch_manifest_entry(io)
        if manifest.content == ManifestContent.DELETES and entries:
            raise refusal(
                folder,
                _KIND,
                "Some of its rows are deleted by delete files, and its data files still hold them. Run "
                "rewrite_data_files and rewrite_position_delete_files on it",
            )
        for entry in entries:
            file = entry.data_file
            if file.file_format != FileFormat.PARQUET:
                raise refusal(folder, _KIND, f"Its file {file.file_path} is {file.file_format.value}, not Parquet")
            yield _relative(file.file_path, folder, metadata.location), file.file_size_in_bytes


def _file_io(filesystem: fs.FileSystem, folder: str, location: str) -> FileIO:
    """Reads what lies below `location`, as the table calls it, from `folder`."""
    from pyiceberg.io import InputFile
    from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

    class TableIO(PyArrowFileIO):
        def new_input(self, path: str) -> InputFile:  # type: ignore[override]
            return PyArrowFile(path, join(folder, _relative(path, folder, location)), filesystem)

    return TableIO()


def _relative(path: str, folder: str, location: str) -> str:
    """A file of the table as seen from its folder.

    Raises:
        InputError: It lies elsewhere.
    """
    plain, root = _plain(path), _plain(location).rstrip("/") + "/"
    inside = plain.removeprefix(root)
    if not plain.startswith(root) or not is_inside(inside):
        raise refusal(folder, _KIND, f"Its file {path} lies outside of its location {location}")
    return inside


def _plain(location: str) -> str:
    """The names of one store are alike, and a local path may have a scheme or none. Nothing is escaped in them."""
    if not is_uri(location):
        return re.sub(r"^file:/+", "/", location)
    scheme, _, path = location.partition("://")
    scheme = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfss": "abfs"}.get(scheme.lower(), scheme.lower())
    return re.sub(r"^/*", "/", path) if scheme == "file" else f"{scheme}://{path}"


def _field_names(metadata: TableMetadata) -> FieldNames:
    histories = [dict(_steps(schema.fields, ())) for schema in metadata.schemas]
    ever = {pair for history in histories for pair in history.items()}
    never_changed = len(ever) == len(dict(ever)) == len({names for _, names in ever})
    return FieldNames(dict(_steps(metadata.schema().fields, ())), never_changed)


def _steps(fields: Iterable[NestedField], owner: Names) -> Iterator[tuple[int, Names]]:
    from pyiceberg.types import ListType, StructType

    for field in fields:
        names = (*owner, field.name)
        yield field.field_id, names
        if isinstance(field.field_type, StructType):
            yield from _steps(field.field_type.fields, names)
        elif isinstance(field.field_type, ListType):
            yield from _steps([field.field_type.element_field], names)
