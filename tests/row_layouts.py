"""Tables as search and training tools write them, a few rows each, and the pairs that they mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Pair = tuple[str, str, str, str]
"""Query id, query, document id, document."""


@dataclass(frozen=True)
class Layout:
    """A file, or a folder of files, and its pairs in their order."""

    write: Callable[[Path], Path]
    """Writes below a folder; gives what `input.path` names."""
    pairs: Sequence[Pair]
    format: str = "auto"


def _lines(name: str, rows: Iterable[Mapping[str, Any]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return folder / name

    return write


def _parquet(name: str, rows: Sequence[Mapping[str, Any]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), folder / name)
        return folder / name

    return write


def _text(name: str, *lines: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return folder / name

    return write


def _made(name: str, *texts: tuple[str, Sequence[str]]) -> list[Pair]:
    """Pairs whose ids are made of file and row."""
    return [
        (f"{name}#{row}", query, f"{name}#{row}/{at}", text)
        for row, (query, of_query) in enumerate(texts)
        for at, text in enumerate(of_query)
    ]


LAYOUTS: dict[str, Layout] = {
    "msmarco-top1000": Layout(
        _text(
            "top1000.tsv",
            '188\t1082792\tdoes "legionella" fever rise\tThe "fever", at last.',
            "188\t995526\tdoes \"legionella\" fever rise\t'Legionella' is a bacterium",
            "199\t995526\twhat is it\t'Legionella' is a bacterium",
        ),
        [
            ("188", 'does "legionella" fever rise', "1082792", 'The "fever", at last.'),
            ("188", 'does "legionella" fever rise', "995526", "'Legionella' is a bacterium"),
            ("199", "what is it", "995526", "'Legionella' is a bacterium"),
        ],
        "msmarco-top1000",
    ),
    "tevatron": Layout(
        _lines(
            "train.jsonl",
            [
                {
                    "query_id": "1",
                    "query": "open a file",
                    "positive_passages": [{"docid": "p1", "title": "Files", "text": "open() opens one."}],
                    "negative_passages": [
                        {"docid": "n1", "title": "", "text": "A tuple."},
                        {"docid": "n2", "text": "A list."},
                    ],
                },
                {"query_id": "2", "query": "sort", "positive_passages": [], "negative_passages": []},
            ],
        ),
        [
            ("1", "open a file", "p1", "Files open() opens one."),
            ("1", "open a file", "n1", "A tuple."),
            ("1", "open a file", "n2", "A list."),
        ],
        "tevatron",
    ),
    "rankllm": Layout(
        _lines(
            "retrieved.jsonl",
            [
                {
                    "query": {"text": "open a file", "qid": 264014},
                    "candidates": [
                        {"docid": "d1", "score": 15.2, "doc": {"title": "Files", "segment": "open() opens one."}},
                        {"docid": 17, "score": 14, "doc": {"title": "Tuples", "segment": "A tuple."}},
                    ],
                }
            ],
        ),
        [
            ("264014", "open a file", "d1", "Files open() opens one."),
            ("264014", "open a file", "17", "Tuples A tuple."),
        ],
        "rankllm",
    ),
    "parallel-lists": Layout(
        _parquet(
            "validation.parquet",
            [
                {
                    "_id": "q1",
                    "query": "open a file",
                    "gt_ids": ["d1"],
                    "candidate_ids": ["d1", "d2"],
                    "candidate_docs": ["open() opens one.", "A tuple."],
                }
            ],
        ),
        [("q1", "open a file", "d1", "open() opens one."), ("q1", "open a file", "d2", "A tuple.")],
        "parallel-lists",
    ),
    "flagembedding": Layout(
        _lines(
            "finetune.jsonl",
            [{"query": "sort", "pos": ["sort() sorts."], "neg": ["A tuple.", "A file."], "pos_scores": [0.9]}],
        ),
        _made("finetune.jsonl", ("sort", ["sort() sorts.", "A tuple.", "A file."])),
        "flagembedding",
    ),
    "mteb-old": Layout(
        _lines("test.jsonl", [{"query": "sort", "positive": ["sort() sorts."], "negative": ["A tuple.", "A file."]}]),
        _made("test.jsonl", ("sort", ["sort() sorts.", "A tuple.", "A file."])),
        "mteb-old",
    ),
    "triplets": Layout(
        _parquet("t.parquet", [{"anchor": "sort", "positive": "sort() sorts.", "negative": "A tuple."}]),
        _made("t.parquet", ("sort", ["sort() sorts.", "A tuple."])),
        "triplets",
    ),
    "n-tuples": Layout(
        _lines(
            "n.jsonl",
            [
                {"anchor": "sort", "positive": "sort() sorts.", "negative_1": "A tuple.", "negative_2": "A file."},
                {"anchor": "open", "positive": "open() opens.", "negative_1": "A tuple.", "negative_2": None},
            ],
        ),
        _made("n.jsonl", ("sort", ["sort() sorts.", "A tuple.", "A file."]), ("open", ["open() opens.", "A tuple."])),
        "n-tuples",
    ),
    "labelled-lists": Layout(
        _parquet("l.parquet", [{"anchor": "sort", "docs": ["sort() sorts.", "A tuple."], "labels": [1, 0]}]),
        _made("l.parquet", ("sort", ["sort() sorts.", "A tuple."])),
        "labelled-lists",
    ),
    "labelled-pairs": Layout(
        _parquet(
            "p.parquet",
            [
                {"anchor": "sort", "passage": "sort() sorts.", "label": 1.0},
                {"anchor": "sort", "passage": "A tuple.", "label": 0.0},
            ],
        ),
        [
            ("p.parquet#0", "sort", "p.parquet#0/0", "sort() sorts."),
            ("p.parquet#0", "sort", "p.parquet#1/1", "A tuple."),
        ],
        "labelled-pairs",
    ),
    "cross-encoder": Layout(
        _lines("eval.jsonl", [{"query": "sort", "positive": ["sort() sorts."], "documents": ["A list.", "A tuple."]}]),
        _made("eval.jsonl", ("sort", ["A list.", "A tuple."])),
        "cross-encoder",
    ),
}
"""Those whose rows carry their texts, by the names of formats."""
