"""The forms of files that hold rows, by their names and by how they begin."""

from __future__ import annotations

import json
import posixpath
from typing import Literal, NamedTuple, get_args

from reranker_batch.storage.input.footers import ENCRYPTED_MAGIC, MAGIC

Form = Literal["parquet", "jsonl", "json", "csv", "tsv", "trec"]
"""`jsonl` has an object a line, `json` is one array or object; `csv` has quotes and `tsv` none; `trec` has columns
between runs of blanks, without a header."""
FORMS: tuple[Form, ...] = get_args(Form)
Compression = Literal["none", "gzip", "zstd"]

_SUFFIXES: dict[str, Form] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".trec": "trec",
}
PACKED_SUFFIXES: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_PACKED_MAGICS: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")
_TREC_COLUMNS = (4, 6)
_TREC_ITERATIONS = (b"Q0", b"q0", b"0")


class NamedForm(NamedTuple):
    """What a name says; None where it says nothing."""

    form: Form | None
    compression: Compression | None


def form_by_name(path: str) -> NamedForm:
    """The form and the compression that the suffixes of a name stand for. The form of `.json` is another one if its
    first line says so."""
    stem, suffix = posixpath.splitext(path.lower())
    compression = PACKED_SUFFIXES.get(suffix)
    form = _SUFFIXES.get(posixpath.splitext(stem)[1] if compression else suffix)
    return NamedForm(form, compression or ("none" if form else None))


def suffixes_of(*forms: Form) -> tuple[str, ...]:
    """The suffixes of files of these forms, packed ones too."""
    plain = [suffix for suffix, form in _SUFFIXES.items() if form in forms]
    packed = [suffix + outer for suffix in plain if _SUFFIXES[suffix] != "parquet" for outer in PACKED_SUFFIXES]
    return (*plain, *packed)


def compression_by_head(head: bytes) -> Compression:
    """How a file that begins so is packed."""
    return next((name for magic, name in _PACKED_MAGICS.items() if head.startswith(magic)), "none")


def form_by_head(head: bytes, *, is_all: bool) -> Form | None:
    """The form of a file that begins so, None where it may be anything; `is_all` says that nothing follows."""
    if head.startswith((MAGIC, ENCRYPTED_MAGIC)):
        return "parquet"
    head = head.removeprefix(BOM).lstrip()
    if head.startswith((b"[", b"{")):
        return json_form(head, is_all=is_all)
    line = head.partition(b"\n")[0]
    columns = line.split()
    if len(columns) in _TREC_COLUMNS and columns[1] in _TREC_ITERATIONS:
        return "trec"
    if b"\0" in line or head.startswith(UTF16):
        return None
    return "tsv" if b"\t" in line else "csv" if b"," in line else None


def json_form(head: bytes, *, is_all: bool) -> Form:
    """`jsonl` where the first line is a whole object and more follows, or nothing stands there; else `json`.

    A file of one line that is an object may be either.
    """
    first, newline, rest = head.removeprefix(BOM).lstrip().partition(b"\n")
    if not first:
        return "jsonl"
    if first.startswith(b"[") or not newline or (is_all and not rest.strip()):
        return "json"
    try:
        json.loads(first.decode(errors="replace"))
    except (ValueError, RecursionError):
        return "json"
    return "jsonl"
