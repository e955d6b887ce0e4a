"""Content hashes of files, computed once a process for each state of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

_State = tuple[str, int, int, int]
_KNOWN: dict[_State, str] = {}


def sha256_of(path: Path) -> str:
    """sha256 of the content; read again only if size, time of change or inode are not those of the last time."""
    state = _state(path)
    if state not in _KNOWN:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if _state(path) != state:
            return digest
        _KNOWN[state] = digest
    return _KNOWN[state]


def _state(path: Path) -> _State:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino
