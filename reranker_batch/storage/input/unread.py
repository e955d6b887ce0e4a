"""Files that hold data and are not read, by their names."""

from __future__ import annotations

import posixpath

_FORMS = {
    ".arrow": "an Arrow file",
    ".feather": "an Arrow file",
    ".ipc": "an Arrow file",
    ".orc": "an ORC file",
    ".avro": "an Avro file",
    ".xlsx": "an Excel file",
    ".xls": "an Excel file",
    ".pkl": "a pickle",
    ".pickle": "a pickle",
}
_PACKED = {
    ".bz2": "bzip2",
    ".xz": "xz",
    ".lz4": "LZ4",
    ".snappy": "Snappy",
    ".zip": "ZIP",
    ".7z": "7-Zip",
    ".tar": "tar",
}
_ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".trec", ".txt", ".parquet")


def unread(path: str) -> str | None:
    """What a file of this name is and what to do with it, None where nothing is known."""
    suffix = posixpath.splitext(path.lower())[1]
    if form := _FORMS.get(suffix):
        return f"{form}, which is not read: write it as Parquet or JSON lines"
    if packed := _PACKED.get(suffix):
        return f"packed by {packed}, which is not read: unpack it, or pack it by gzip or zstd"
    return None


def is_unread_table(path: str) -> bool:
    """Whether a file of this name surely has rows, unlike an archive, which may stand next to what it had in it."""
    stem, suffix = posixpath.splitext(path.lower())
    is_packed = suffix in _PACKED and suffix not in (".zip", ".7z", ".tar")
    return suffix in (".arrow", ".feather", ".ipc", ".orc", ".avro") or (is_packed and stem.endswith(_ROWS))
