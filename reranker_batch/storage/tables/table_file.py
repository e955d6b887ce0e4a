"""One file of a table, and how its form is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.files.filesystem import join, resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.footers import read_footer
from reranker_batch.storage.input.listing import ListedFile
from reranker_batch.storage.input.unread import unread
from reranker_batch.storage.tables.forms import BOM, FORMS, Compression, Form, form_by_head, form_by_name, json_form
from reranker_batch.storage.tables.heads import Head, read_head, without_bom

AskedForm = Form | Literal["auto"]
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


def table_file(root: str, listed: ListedFile, form: AskedForm, key: str) -> TableFile:
    """A file of the form that is asked for, or of the one that its name says, else of the one that it begins like.

    Raises:
        InputError: It cannot be told, or the file cannot be read.
    """
    by_name, compression = form_by_name(listed.path)
    chosen = by_name if form == "auto" else form
    if compression is None or chosen is None or (form == "auto" and chosen == "json"):
        head = _head(root, listed.path)
        compression = compression or head.compression
        if form == "auto":
            look = json_form if chosen == "json" else form_by_head
            chosen = look(head.content, is_all=head.is_all)
            if chosen is None and head.is_all and not head.content.strip():
                raise InputError(f"{listed.path} is empty. Check {key}.")
    if chosen is None:
        if what := unread(listed.path):
            raise InputError(f"{listed.path} is {what}. Check {key}.")
        raise InputError(
            f"{listed.path} is of no known form by its name and by how it begins. Known forms: {', '.join(FORMS)}. "
            f"Give the file a suffix such as .tsv, or check {key}."
        )
    return TableFile(listed.path, chosen, compression, listed.size_bytes, listed.modified_ns)


def refuse_bad(root: str, file: TableFile) -> None:
    """Raises InputError for a file that cannot be opened as what it is. Damage further on is not seen."""
    if file.form == "parquet":
        filesystem, folder = resolve(root)
        path = join(folder, file.path)
        try:
            retried(lambda: read_footer(filesystem, path), f"Reading {path}")
        except (InputError, OSError) as error:
            raise InputError(f"{file.path} cannot be used: {first_line(error)}.") from error
        return
    head = _head(root, file.path)
    if file.compression != "none" and not (head.compression == file.compression and (head.content or head.is_all)):
        raise InputError(f"{file.path} cannot be read as {file.compression}.")
    without_bom(head.content, file.path)


def of_one_form(root: str, files: Sequence[TableFile]) -> tuple[list[TableFile], dict[str, str]]:
    """JSON files in the form that they have together, and why others are left out.

    An empty file, or one of a single line, is what the others are. A JSON object is left out where others hold rows.
    """
    forms = {file.form for file in files}
    if not forms & {*_JSON} or len(forms) == 1:
        return [*files], {}
    kept: list[TableFile] = []
    left_out: dict[str, str] = {}
    has_others = bool(forms - {*_JSON})
    contents = {file: _json_content(root, file) for file in files if file.form in _JSON}
    is_lines = any(file.form == "jsonl" and content for file, content in contents.items())
    for file in files:
        content = contents.get(file)
        if content is None or (content.startswith(b"{") and file.form == "jsonl"):
            kept.append(file)
        elif not content and has_others:
            left_out[file.path] = "empty"
        elif not content or (is_lines and content.startswith(b"{") and b"\n" not in content):
            kept.append(replace(file, form="jsonl" if is_lines else "json"))
        elif content.startswith(b"{") and (is_lines or has_others):
            left_out[file.path] = "one JSON object, where other files hold rows"
        else:
            kept.append(file)
    return kept, left_out


def _json_content(root: str, file: TableFile) -> bytes:
    """How a file begins; of an object that does not end there, its first lines."""
    head = _head(root, file.path)
    content = head.content.removeprefix(BOM).strip(b" \t\r\n")
    return content if head.is_all else content + b"\n"


def _head(root: str, name: str) -> Head:
    filesystem, folder = resolve(root)
    path = join(folder, name)
    try:
        return retried(lambda: read_head(filesystem, path), f"Reading {path}")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {first_line(error)}.") from error
