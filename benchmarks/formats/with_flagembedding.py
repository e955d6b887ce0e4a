"""FlagEmbedding: its training data, which its own class loads before we do."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from FlagEmbedding.abc.finetune.reranker.AbsDataset import AbsRerankerTrainDataset
from sample import QUERIES, RUN, case, main, ranked, text_of


def write(folder: Path) -> None:
    rows = [
        {
            "query": QUERIES[query],
            "pos": [text_of(docs[0])],
            "neg": [text_of(doc) for doc in docs[1:]] or ["other"],
            "pos_scores": [RUN[query][docs[0]]],
            "neg_scores": [RUN[query][doc] for doc in docs[1:]] or [-9.5],
        }
        for query, docs in ranked(RUN).items()
    ]
    expected = [
        {"query_id": None, "query": row["query"], "candidates": [[None, text] for text in [*row["pos"], *row["neg"]]]}
        for row in rows
    ]
    goal = case(folder, "flagembedding", {"input": {"path": "train.jsonl", "format": "flagembedding"}}, expected)
    path = goal / "train.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert [row["query"] for row in load(path)] == [row["query"] for row in rows]


def load(path: Path) -> Any:
    arguments = SimpleNamespace(
        train_data=[str(path)],
        cache_path=str(path.parent / "cache"),
        max_example_num_per_dataset=100,
        knowledge_distillation=True,
        query_max_len=32,
        passage_max_len=64,
    )
    return AbsRerankerTrainDataset(arguments, None).dataset


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    return {}


if __name__ == "__main__":
    main(write, read)
