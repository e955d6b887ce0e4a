"""MTEB: a set in the files of its repositories, which its own loader reads, and exported predictions for its tasks."""

import json
from pathlib import Path

from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader
from mteb.abstasks.task_metadata import TaskMetadata
from sample import CORPUS, QUERIES, RUN, answer, case, main, ranked

CONFIGS = ("corpus", "queries", "qrels", "top_ranked")


def write(folder: Path) -> None:
    goal = case(folder, "mteb", {"input": {"format": "mteb", "path": "."}}, answer())
    tables = {
        "corpus": [{"_id": doc, **CORPUS[doc]} for doc in CORPUS],
        "queries": [{"_id": query, "text": text} for query, text in QUERIES.items()],
        "qrels": [{"query-id": query, "corpus-id": docs[0], "score": 1} for query, docs in ranked(RUN).items()],
        "top_ranked": [{"query-id": query, "corpus-ids": docs} for query, docs in ranked(RUN).items()],
    }
    for name, rows in tables.items():
        path = goal / name / "test-00000-of-00001.parquet"
        path.parent.mkdir()
        Dataset.from_list(rows).to_parquet(path)
    files = [{"config_name": name, "data_files": [{"split": "test", "path": f"{name}/*"}]} for name in CONFIGS]
    (goal / "README.md").write_text(f"---\nconfigs: {json.dumps(files)}\n---\n")
    assert load(goal)["top_ranked"] == ranked(RUN)
    old = [
        {"query": QUERIES[query], "positive": [docs[0]], "negative": docs[1:]} for query, docs in ranked(RUN).items()
    ]
    texts = [
        {
            "query_id": None,
            "query": row["query"],
            "candidates": [[None, text] for text in row["positive"] + row["negative"]],
        }
        for row in old
    ]
    before = case(folder, "mteb_old", {"input": {"path": "test.jsonl.gz", "format": "mteb-old"}}, texts)
    Dataset.from_list(old).to_json(before / "test.jsonl.gz", compression="gzip")


def load(folder: Path) -> dict:
    return dict(RetrievalDatasetLoader(str(folder), revision=None, split="test").load())


class Task(AbsTaskRetrieval):
    """A retrieval task of our own, whose data is there already."""

    metadata = TaskMetadata(
        name="Exported",
        description="Files of an export.",
        dataset={"path": "local", "revision": "1"},
        type="Retrieval",
        eval_langs=["eng-Latn"],
        eval_splits=["test"],
        main_score="ndcg_at_10",
    )


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    task = Task()
    task.dataset = {"default": {"test": {}}}
    task.data_loaded = True
    task.convert_to_reranking(exports / "predictions.json", top_k=1000)
    return {"convert_to_reranking": dict(task.dataset["default"]["test"]["top_ranked"])}


if __name__ == "__main__":
    main(write, read)
