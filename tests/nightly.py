"""Nights of a small table: memos as a run would write them, and what is right by a plain dictionary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from oracle import logit_of

from reranker_batch.core.counts import Counts
from reranker_batch.core.memo import MemoRows, PairTokens
from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.report import MemoFile
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.memo import publish_memo
from reranker_batch.storage.output.parts import MEMO, STAGING, PartRecord

Pair = tuple[str, str]
FINGERPRINT = "f" * 64


@dataclass(frozen=True)
class Night:
    """An output with a memo."""

    output: Folder
    files: dict[str, MemoFile]


def unit_id(at: int) -> str:
    return f"00000-{at:010d}"


def units_of(table: Sequence[Pair], size: int) -> list[list[Pair]]:
    return [list(table[start : start + size]) for start in range(0, len(table), size)]


def rows_of(pairs: Sequence[Pair]) -> UnitRows:
    """A unit; each row of the table is a query of its own."""
    query_at = pa.array(np.arange(len(pairs)))
    documents = pa.array([document for _, document in pairs], pa.large_string())
    return UnitRows(
        pa.table({"query": pa.array([query for query, _ in pairs], pa.large_string())}),
        pa.table({"query_at": query_at, "document": documents}),
        DEAD_LETTER_PLACES.empty_table(),
    )


def keys_of(pairs: Sequence[Pair]) -> MemoRows:
    return UnitTexts.of(rows_of(pairs)).keys()


def score(pairs: Sequence[Pair], rows: MemoRows, at: np.ndarray[Any, Any]) -> None:
    """Fill in what tokenizer and model would give for the pairs at these places."""
    chosen = [pairs[place] for place in at]
    queries = np.array([len(query) for query, _ in chosen], dtype=np.int32)
    documents = np.array([len(document) for _, document in chosen], dtype=np.int32)
    is_long = documents > 3
    tokens = PairTokens(
        queries, np.minimum(documents, 5), queries, np.minimum(documents, 3), queries < 0, documents > 5, is_long
    )
    tokens.fill(rows, at)
    rows["logit"][at] = [logit_of(query.encode(), document.encode()) for query, document in chosen]


def publish(folder: Path, units: Sequence[MemoRows]) -> Night:
    output = Folder.at(str(folder))
    for name in (MEMO, STAGING):
        (folder / name).mkdir(parents=True)
    files = {unit_id(at): publish_one(output, at, rows) for at, rows in enumerate(units)}
    return Night(output, files)


def publish_one(output: Folder, at: int, rows: MemoRows) -> MemoFile:
    record = PartRecord(unit_id(at), FINGERPRINT, Counts())
    return publish_memo(output, rows, record, scoring_fingerprint=FINGERPRINT)


def first_night(folder: Path, table: Sequence[Pair], size: int) -> Night:
    units = []
    for pairs in units_of(table, size):
        rows = keys_of(pairs)
        score(pairs, rows, np.arange(len(pairs)))
        units.append(rows)
    return publish(folder, units)


def move_logits(output: Path) -> None:
    """As if another model had made the memo."""
    report = json.loads((output / "run" / "report.json").read_text())
    for part in report["parts"]:
        path = output / "memo" / f"part-{part['unit_id']}.parquet"
        table = pq.read_table(path)
        logits = pc.add(table["logit"], pa.scalar(1.0, pa.float32()))
        pq.write_table(
            table.set_column(table.schema.get_field_index("logit"), table.schema.field("logit"), logits), path
        )
        part["memo"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (output / "run" / "report.json").write_text(json.dumps(report))
