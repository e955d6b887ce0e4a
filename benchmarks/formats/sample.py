"""A small collection that every tool writes in its own layout, and the answer that has to come out of all of them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUERIES = {"q10": "why is the sky blue", "2": 'who is "007"?', "q-ü": "größer als 数"}
CORPUS = {
    "c1": {"title": "Sky", "text": "Blue light is scattered most."},
    "007": {"title": "Bond", "text": ""},
    "7": {"title": "", "text": 'A number, not "007.'},
    "d-ü": {"title": "尺寸", "text": "Größe, 📏"},
}
RUN = {
    "q10": {"7": 0.5, "c1": 12.25, "007": -3.0},
    "2": {"007": 2.0, "7": 1.0, "c1": 0.25},
    "q-ü": {"d-ü": 1.0},
}


def text_of(doc_id: str) -> str:
    """Title and text as rerankers read them."""
    document = CORPUS[doc_id]
    return f"{document['title']} {document['text']}".strip()


def ranked(run: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """Documents of each query by score."""
    return {query: sorted(scores, key=lambda doc: -scores[doc]) for query, scores in run.items()}


def answer(run: dict[str, dict[str, float]] = RUN) -> list[dict[str, Any]]:
    """What is scored, sorted by query id."""
    return [
        {"query_id": query, "query": QUERIES[query], "candidates": [[doc, text_of(doc)] for doc in documents]}
        for query, documents in sorted(ranked(run).items())
    ]


def case(folder: Path, name: str, config: dict[str, Any], expected: list[dict[str, Any]]) -> Path:
    """A folder for the files of a layout; next to it the config to score them, and what has to come out."""
    goal = folder / name
    goal.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(json.dumps(config))
    (folder / f"{name}.expected.json").write_text(json.dumps(expected))
    return goal


Read = Callable[[Path], dict[str, dict[str, list[str]]]]
"""Loads exports: by the name of a loader, the documents of each query in its order."""


def main(write: Callable[[Path], None], read: Read) -> None:
    """`write FOLDER` or `read EXPORTS RESULT`."""
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "write":
        write(folder)
    else:
        Path(sys.argv[3]).write_text(json.dumps(read(folder)))
