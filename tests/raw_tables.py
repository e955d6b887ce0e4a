"""Files of rows in any form, written and read back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import RawRows, read_piece
from reranker_batch.storage.tables.table_files import TableFiles, open_table


def written(path: Path, content: bytes, **asked: Any) -> TableFiles:
    """The table of a new file."""
    path.write_bytes(content)
    return open_table(str(path), **asked)


def read(files: TableFiles, piece_bytes: int = 1 << 20, **asked: Any) -> list[RawRows]:
    """All tables, by pieces that went through a pickle."""
    asked_of = pickle.loads(pickle.dumps((files, pieces(files, piece_bytes))))
    return [rows for piece in asked_of[1] for rows in read_piece(asked_of[0], piece, **asked)]


def rows_of(files: TableFiles, piece_bytes: int = 1 << 20, **asked: Any) -> list[dict[str, Any]]:
    return [row for rows in read(files, piece_bytes, **asked) for row in rows.table.to_pylist()]


def places_of(files: TableFiles, piece_bytes: int = 1 << 20) -> list[str]:
    """The place of each row."""
    return [rows.place(row) for rows in read(files, piece_bytes) for row in range(len(rows.table))]


def jsonl(rows: Sequence[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def tsv(rows: Sequence[Mapping[str, str]], *, header: bool = True) -> bytes:
    lines = [[*rows[0]]] if header else []
    return "".join("\t".join(line) + "\n" for line in [*lines, *([*row.values()] for row in rows)]).encode()
