"""The files of a table, whatever their form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from pyarrow import fs

from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.filesystem import join, resolve
from reranker_batch.storage.input.listing import OTHER_SUFFIXES, Begins, DataFiles, ListedFile, list_input
from reranker_batch.storage.retrying import retried
from reranker_batch.storage.tables.forms import (
    BOM,
    FORMS,
    PACKED_SUFFIXES,
    Compression,
    Form,
    form_by_head,
    form_by_name,
    json_form,
    suffixes_of,
)
from reranker_batch.storage.tables.heads import Head, read_head

_PROBE_THREADS = 16
_JSON: tuple[Form, ...] = ("json", "jsonl")


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

    Of a folder that is every file with a suffix of a form, also with `.gz` or `.zst` behind it, and every file of no
    known suffix that begins like Parquet or JSON; what else lies there is left out, as `list_input` says. So is a file
    such as `stats.json` that is one JSON object, where there are files of rows. With a `form`, of a folder those files
    are read that have a suffix of that form or `.txt`, or no known one and begin so; a file or glob is taken to be of
    it. `key` is the config key that messages name.

    Raises:
        InputError: Nothing is there, a file's form cannot be told, or the files are of several forms.
        ConfigError: See `resolve`.
    """
    listing = retried(lambda: list_input(place, data_files(form), key=key), f"Listing {place}")
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        listed = tuple(pool.map(lambda one: _table_file(listing.root, one, form, key), listing.files))
    files, left_out = _of_one_form(listing.root, listed)
    if len(forms := {file.form: file.path for file in reversed(files)}) > 1:
        shown = ", ".join(f"{path} is {name}" for name, path in sorted(forms.items()))
        raise InputError(f"{place} holds files of several forms: {shown}. Give files of one form: check {key}.")
    has_names = has_header and files[0].form in ("csv", "tsv")
    return TableFiles(listing.root, files, files[0].form, has_names, {**listing.left_out, **left_out})


def _of_one_form(root: str, files: tuple[TableFile, ...]) -> tuple[tuple[TableFile, ...], dict[str, str]]:
    """`.json` files that may be lines are, where others are; and one object among files of rows is left out."""
    forms = {file.form for file in files}
    if "json" not in forms or len(forms) == 1:
        return files, {}
    kept, left_out = [], {}
    for file in files:
        begin, is_line = _json_kind(root, file) if file.form == "json" else (b"", False)
        if is_line and "jsonl" in forms:
            kept.append(replace(file, form="jsonl"))
        elif begin == b"{":
            left_out[file.path] = "one JSON object, where other files hold rows"
        else:
            kept.append(file)
    return tuple(kept), left_out


def _json_kind(root: str, file: TableFile) -> tuple[bytes, bool]:
    """How a JSON file begins, and whether it is an object in one line."""
    head = _head(root, file.path)
    content = head.content.removeprefix(BOM).strip(b" \t\r\n")
    return content[:1], content[:1] == b"{" and head.is_all and b"\n" not in content


def data_files(form: Form | Literal["auto"]) -> DataFiles:
    """Which files of a folder are data."""
    others = tuple(suffix for suffix in OTHER_SUFFIXES if suffix not in PACKED_SUFFIXES)
    if form == "auto":
        return DataFiles("data", suffixes_of(*FORMS), _begins_like(("parquet", *_JSON)), others)
    forms = _JSON if form in _JSON else (form,)
    texts = tuple(".txt" + packed for packed in ("", *PACKED_SUFFIXES)) if form != "parquet" else ()
    return DataFiles(form, (*suffixes_of(*forms), *texts), _begins_like(forms), (*others, *suffixes_of(*FORMS)))


def _begins_like(forms: Collection[Form]) -> Begins:
    def begins(filesystem: fs.FileSystem, path: str) -> bool:
        head = read_head(filesystem, path)
        return form_by_head(head.content, is_all=head.is_all) in forms

    return begins


def _table_file(root: str, listed: ListedFile, form: Form | Literal["auto"], key: str) -> TableFile:
    """The form of a file, by its name as far as that says it."""
    by_name, compression = form_by_name(listed.path)
    found = by_name if form == "auto" else form
    if compression is None or found is None or (form == "auto" and found == "json"):
        head = _head(root, listed.path)
        compression = compression or head.compression
        if form == "auto":
            look = json_form if found == "json" else form_by_head
            found = look(head.content, is_all=head.is_all)
    if found is None:
        raise InputError(
            f"{listed.path} is of no known form by its name and by how it begins. Known forms: {', '.join(FORMS)}. "
            f"Give the file a suffix such as .tsv, or check {key}."
        )
    return TableFile(listed.path, found, compression, listed.size_bytes, listed.modified_ns)


def _head(root: str, name: str) -> Head:
    filesystem, folder = resolve(root)
    path = join(folder, name)
    try:
        return retried(lambda: read_head(filesystem, path), f"Reading {path}")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {first_line(error)}.") from error
