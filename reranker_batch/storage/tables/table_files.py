"""The files of a table, whatever their form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pyarrow import fs

from reranker_batch.errors import InputError
from reranker_batch.storage.files.filesystem import join, resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.listing import (
    OTHER_SUFFIXES,
    Begins,
    DataFiles,
    ListedFile,
    list_input,
    shown_left_out,
)
from reranker_batch.storage.input.partitions import Partitions, partitions_of
from reranker_batch.storage.input.unread import is_unread_table
from reranker_batch.storage.tables.forms import FORMS, PACKED_SUFFIXES, Form, form_by_head, suffixes_of
from reranker_batch.storage.tables.heads import read_head
from reranker_batch.storage.tables.table_file import AskedForm, TableFile, of_one_form, refuse_bad, table_file

_PROBE_THREADS = 16
_JSON: tuple[Form, ...] = ("json", "jsonl")


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
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Files that cannot be used and are skipped because that is asked for, by path, each with what is wrong."""
    has_partitions: bool = True
    """Whether names of folders are columns."""

    def identity(self) -> dict[str, dict[str, int | None]]:
        """Size and time of each file by path, to detect a changed source; the location does not matter."""
        return {file.path: {"size_bytes": file.size_bytes, "modified_ns": file.modified_ns} for file in self.files}

    def place(self, file_index: int) -> tuple[fs.FileSystem, str]:
        """The filesystem of a file, and its path there."""
        filesystem, folder = resolve(self.root)
        return filesystem, join(folder, self.files[file_index].path)

    def partitions(self, file_index: int) -> Partitions:
        """The columns that the folders of a file stand for, as Hive writes them: `day=1/a.jsonl` has `day`.

        Raises:
            InputError: See `partitions_of`.
        """
        if not self.has_partitions:
            return {}
        return partitions_of(resolve(self.root)[1], self.files[file_index].path)


def open_table(
    place: str,
    *,
    form: AskedForm = "auto",
    has_header: bool = True,
    key: str = "input.path",
    skip_bad: bool = False,
) -> TableFiles:
    """List a file, folder, glob or URI, and find the form of its files by their suffixes or first bytes.

    Of a folder that is every file with a suffix of a form, also with `.gz` or `.zst` behind it, and every file of no
    known suffix that begins like Parquet or JSON; what else lies there is left out, as `list_input` says. So is a file
    such as `stats.json` that is one JSON object, where there are files of rows. With a `form`, of a folder those files
    are read that have a suffix of that form or `.txt`, or no known one and begin so; a file or glob is taken to be of
    it. With `skip_bad` files that cannot be opened are skipped. `key` is the config key that messages name.

    Raises:
        InputError: Nothing is there, a file's form cannot be told, or the files are of several forms.
        ConfigError: See `resolve`.
    """
    listing = retried(lambda: list_input(place, data_files(form), key=key), f"Listing {place}")
    with ThreadPoolExecutor(_PROBE_THREADS) as pool:
        opened = list(pool.map(lambda one: _opened(listing.root, one, form, key, skip_bad=skip_bad), listing.files))
    skipped = {one.path: file for one, file in zip(listing.files, opened, strict=True) if isinstance(file, str)}
    files, left_out = of_one_form(listing.root, [file for file in opened if isinstance(file, TableFile)])
    _refuse_mixed(files, place, key, skipped)
    only = files[0].form
    if only != "parquet":
        _refuse_unread(listing.left_out, place, key)
    has_names = has_header and only in ("csv", "tsv")
    left_out = {**listing.left_out, **left_out}
    return TableFiles(listing.root, tuple(files), only, has_names, left_out, skipped, listing.has_partitions)


def _opened(root: str, listed: ListedFile, form: AskedForm, key: str, *, skip_bad: bool) -> TableFile | str:
    """A file, or what is wrong with one that is to be skipped."""
    try:
        file = table_file(root, listed, form, key)
        if skip_bad:
            refuse_bad(root, file)
    except InputError as error:
        if skip_bad:
            return str(error)
        raise
    return file


def _refuse_mixed(files: Collection[TableFile], place: str, key: str, skipped: Mapping[str, str]) -> None:
    if not files:
        raise InputError(f"{place} holds no file that can be used. {shown_left_out(skipped)}. Check {key}.")
    forms: dict[Form, str] = {}
    for file in files:
        forms.setdefault(file.form, file.path)
    if len(forms) > 1:
        shown = ", ".join(f"{path} is {name}" for name, path in sorted(forms.items()))
        raise InputError(f"{place} holds files of several forms: {shown}. Give files of one form: check {key}.")


def _refuse_unread(left_out: Mapping[str, str], place: str, key: str) -> None:
    """Raises InputError where rows would be left out that lie in files next to those that are read."""
    for path, reason in left_out.items():
        if is_unread_table(path):
            raise InputError(f"{place} holds {path}, {reason}. Or move it elsewhere: check {key}.")


def data_files(form: AskedForm) -> DataFiles:
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
