"""ir_datasets and ranx: load exported runs. They write no layout of their own."""

from pathlib import Path

from ir_datasets.formats import TrecScoredDocs
from ir_datasets.util import LocalDownload
from ranx import Run
from sample import main


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    scored: dict[str, dict[str, float]] = {}
    for doc in TrecScoredDocs(LocalDownload(exports / "run.trec")).scoreddocs_iter():
        scored.setdefault(doc.query_id, {})[doc.doc_id] = doc.score
    run = Run.from_file(str(exports / "run.trec"), kind="trec").to_dict()
    return {
        name: {query: sorted(scores, key=lambda doc: -scores[doc]) for query, scores in by_query.items()}
        for name, by_query in {"TrecScoredDocs": scored, "ranx.Run": run}.items()
    }


if __name__ == "__main__":
    main(write, read)
