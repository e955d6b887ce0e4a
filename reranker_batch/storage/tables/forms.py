"""The forms of files that hold rows, by their names and by how they begin."""

from __future__ import annotations

import json
import posixpath
from typing import Literal, NamedTuple, get_args

import pyarrow as pa

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
_COMPRESSED: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
_MAGICS: dict[bytes, Compression] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
SUFFIXES = (
    *_SUFFIXES,
    *(inner + outer for inner in _SUFFIXES if inner not in (".parquet", ".pq") for outer in _COMPRESSED),
)
"""Of files that are taken for data by their names."""
BOM = b"\xef\xbb\xbf"
_TREC_COLUMNS = (4, 6)


class NamedForm(NamedTuple):
    """What a name says: None where it says nothing."""

    form: Form | None
    compression: Compression | None


def form_by_name(path: str) -> NamedForm:
    """The form and compression that the suffixes of a name stand for."""
    stem, suffix = posixpath.splitext(path.lower())
    compression = _COMPRESSED.get(suffix)
    if compression is not None:
        suffix = posixpath.splitext(stem)[1]
    form = _SUFFIXES.get(suffix)
    return NamedForm(form, compression if compression or form is None else "none")


def compression_of(head: bytes) -> Compression:
    """How a file that begins so is compressed."""
    return next((name for magic, name in _MAGICS.items() if head.startswith(magic)), "none")


def unpacked(head: bytes, compression: Compression) -> bytes:
    """What the first bytes of a compressed file unpack to, as far as they go; nothing where they are damaged."""
    if compression == "none":
        return head
    content = b""
    try:
        with pa.CompressedInputStream(pa.BufferReader(head), compression) as stream:
            while len(content) < len(head) and (more := stream.read(1 << 12)):
                content += more
    except OSError:
        pass
    return content


def form_by_head(head: bytes, *, is_whole: bool) -> Form | None:
    """The form of a file that begins so; None where it may be anything.

    Of JSON, an array is `json` and an object in the first line is `jsonl` where more follows. `is_whole` says that
    nothing follows `head`.
    """
    if head.startswith((MAGIC, ENCRYPTED_MAGIC)):
        return "parquet"
    head = head.removeprefix(BOM)
    if head.lstrip()[:1] in (b"[", b"{"):
        return json_form(head, is_whole=is_whole)
    line = head.lstrip(b"\r\n").partition(b"\n")[0]
    columns = line.split()
    if len(columns) in _TREC_COLUMNS and columns[1] in (b"Q0", b"q0", b"0"):
        return "trec"
    if b"\t" in line:
        return "tsv"
    return "csv" if b"," in line else None


def json_form(head: bytes, *, is_whole: bool) -> Form:
    """`jsonl` where the first line is a whole object and more follows."""
    first, _, rest = head.removeprefix(BOM).lstrip().partition(b"\n")
    if first[:1] == b"[" or (is_whole and not rest.strip()):
        return "json"
    try:
        json.loads(first.decode(errors="replace"))
    except (ValueError, RecursionError):
        return "json"
    return "jsonl"
