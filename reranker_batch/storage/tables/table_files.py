"""The files of a table, whatever their form."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from pyarrow import fs

from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.filesystem import join, resolve
from reranker_batch.storage.input.listing import DataFiles, ListedFile, list_input
from reranker_batch.storage.retrying import retried
from reranker_batch.storage.tables.forms import (
    FORMS,
    SUFFIXES,
    Compression,
    Form,
    compression_of,
    form_by_head,
    form_by_name,
    json_form,
    unpacked,
)

_HEAD_BYTES = 1 << 16
_PROBE_THREADS = 16


@dataclass(frozen=True)
class TableFile:
    """A file by its path below the root."""

    path: str
    form: Form
    compression: Compression
    size_bytes: int
    """0 where the store does not tell."""
    modified_ns: int | None
    """Not known on every store."""


@dataclass(frozen=True)
class TableFiles:
    """The files of a table, all of one form, sorted by path. Small, and the same in every process."""

    root: str
    files: tuple[TableFile, ...]
    form: Form
    has_header: bool = True
    """Whether the first line of each CSV or TSV file names its columns; else they are called `0`, `1`, …"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Files and folders that are not read, by path, each with the reason."""

    def identity(self) -> dict[str, dict[str, int | None]]:
        """Size and time of each file by path, to detect a changed source; the location does not matter."""
        return {file.path: {"size_bytes": file.size_bytes, "modified_ns": file.modified_ns} for file in self.files}

    def place(self, file_index: int) -> tuple[fs.FileSystem, str]:
        """The filesystem of a file, and its path there."""
        filesystem, folder = resolve(self.root)
        return filesystem, join(folder, self.files[file_index].path)


def open_table(
    place: str, *, form: Form | Literal["auto"] = "auto", has_header: bool = True, key: str = "input.path"
) -> TableFiles:
    """List a file, folder, glob or URI, and find the form of its files by their suffixes or first bytes.

    Of a folder that is every file with a suffix of a form, each also with `.gz` or `.zst`, and every file of no known
    suffix that begins like Parquet or JSON; what else lies there is left out, as `list_input` says. `form` is that of
    all files whatever their names; `key` is the config key that messages name.

    Raises:
        InputError: Nothing is there, a file's form cannot be told, or the files are of several forms.
        ConfigError: See `resolve`.
    """
    listing = retried(lambda: list_input(place, DATA_FILES, key=key), f"Listing {place}")
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        files = tuple(pool.map(lambda listed: _table_file(listing.root, listed, form, key), listing.files))
    forms = {file.form: file.path for file in reversed(files)}
    if len(forms) > 1:
        shown = ", ".join(f"{path} is {name}" for name, path in sorted(forms.items()))
        raise InputError(f"{place} holds files of several forms: {shown}. Give files of one form: check {key}.")
    return TableFiles(listing.root, files, files[0].form, has_header and files[0].form != "trec", listing.left_out)


def _begins_like_rows(head: bytes) -> bool:
    content = unpacked(head, compression_of(head))
    return form_by_head(content, is_whole=False) in ("parquet", "jsonl", "json")


DATA_FILES = DataFiles("known", SUFFIXES, _begins_like_rows, _HEAD_BYTES)


def _table_file(root: str, listed: ListedFile, form: Form | Literal["auto"], key: str) -> TableFile:
    named = form_by_name(listed.path)
    found, compression = named
    if form != "auto":
        found = form
    if found in (None, "json") or compression is None:
        head, is_whole = _head(root, listed)
        compression = compression_of(head) if compression is None else compression
        if found is None:
            found = form_by_head(unpacked(head, compression), is_whole=is_whole)
        elif form == "auto":
            found = json_form(unpacked(head, compression), is_whole=is_whole)
    if found is None:
        raise InputError(
            f"{listed.path} is of no known form by its name and its first bytes. Known forms: {', '.join(FORMS)}; "
            f"give the file a suffix such as .tsv. Check {key}."
        )
    return TableFile(listed.path, found, compression, listed.size_bytes, listed.modified_ns)


def _head(root: str, listed: ListedFile) -> tuple[bytes, bool]:
    """The first bytes of a file, and whether these are all."""
    filesystem, folder = resolve(root)
    path = join(folder, listed.path)

    def read() -> bytes:
        with filesystem.open_input_stream(path) as source:
            content: bytes = source.read(_HEAD_BYTES + 1)
            return content

    try:
        head = retried(read, f"Reading {path}")
    except OSError as error:
        raise InputError(f"{listed.path} cannot be read: {first_line(error)}.") from error
    return head[:_HEAD_BYTES], len(head) <= _HEAD_BYTES
