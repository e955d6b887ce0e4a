"""BEIR: writes a folder and a run, loads an exported run."""

from pathlib import Path

from beir.datasets.data_loader import GenericDataLoader
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.util import load_runfile, save_runfile, write_to_json, write_to_tsv
from sample import CORPUS, QUERIES, RUN, answer, case, main


def write(folder: Path) -> None:
    by_format = {"input": {"format": "beir", "path": "."}, "prepare": {"run": "run.trec"}}
    goal = case(folder, "beir", by_format, answer())
    write_to_json(str(goal / "corpus.jsonl"), CORPUS)
    write_to_json(str(goal / "queries.jsonl"), QUERIES)
    (goal / "qrels").mkdir()
    write_to_tsv(str(goal / "qrels" / "test.tsv"), {"q10": {"c1": 1}, "2": {"007": 1}, "q-ü": {"d-ü": 1}})
    save_runfile(str(goal / "run.trec"), RUN)
    corpus, queries, _ = GenericDataLoader(str(goal)).load(split="test")
    assert queries == QUERIES
    assert corpus.keys() == CORPUS.keys()


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    run = load_runfile(str(exports / "run.trec"))
    qrels = {query: dict.fromkeys(documents, 1) for query, documents in run.items()}
    EvaluateRetrieval().evaluate(qrels, run, [10])
    return {"load_runfile": {query: sorted(scores, key=lambda doc: -scores[doc]) for query, scores in run.items()}}


if __name__ == "__main__":
    main(write, read)
