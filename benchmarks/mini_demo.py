"""The demo table: judged queries with BM25 candidates, and how well BM25 and a model rank them."""

from pathlib import Path

import bm25s
import ir_measures
import pyarrow as pa
import pyarrow.parquet as pq
import Stemmer
from mini_corpus import Collection, Question, cut, order_key
from mini_model import score_pairs

DEMO_DEPTH = 30
DEMO_DOCSTRING_QUERIES = 110
DEMO_DOCUMENT_CHARS = 600
"""The demo is a first try on any laptop: a minute on two cores allows about this much text."""
DEMO_ROW_GROUP = 50
KINDS = ("", "faq/", "docstring/")

CANDIDATE = pa.struct(
    [
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("retrieval_rank", pa.int32()),
        ("retrieval_score", pa.float32()),
        ("relevance", pa.int32()),
    ]
)
DEMO_SCHEMA = pa.schema([("query_id", pa.string()), ("query", pa.string()), ("candidates", pa.list_(CANDIDATE))])


class FirstStage:
    """BM25 over one collection, with English stop words and stemming."""

    def __init__(self, collection: Collection) -> None:
        self.doc_ids = list(collection.documents)
        self.stemmer = Stemmer.Stemmer("english")
        self.index = bm25s.BM25()
        self.index.index(self.tokenize(list(collection.documents.values())), show_progress=False)

    def tokenize(self, texts: list[str]):
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False)

    def retrieve(self, queries: list[str], *, depth: int) -> list[list[tuple[str, float]]]:
        """The best documents of each query as (doc_id, score), best first."""
        depth = min(depth, len(self.doc_ids))
        positions, scores = self.index.retrieve(self.tokenize(queries), k=depth, show_progress=False)
        return [
            [(self.doc_ids[p], float(s)) for p, s in zip(row, row_scores, strict=True)]
            for row, row_scores in zip(positions, scores, strict=True)
        ]


def demo_rows(test: Collection) -> list[dict]:
    """The FAQ's questions and some docstrings, with unfiltered BM25 candidates that hold an answer."""
    short = {doc_id: cut(text, max_chars=DEMO_DOCUMENT_CHARS) for doc_id, text in test.documents.items()}
    test = Collection(test.name, short, test.questions)
    found = FirstStage(test).retrieve([q.query for q in test.questions], depth=DEMO_DEPTH)
    rows = [demo_row(test, q, ranking) for q, ranking in zip(test.questions, found, strict=True)]
    answered = [row for row in rows if any(c["relevance"] for c in row["candidates"])]
    faq = [row for row in answered if row["query_id"].startswith("faq/")]
    docstrings = [row for row in answered if not row["query_id"].startswith("faq/")]
    chosen = faq + sorted(docstrings, key=lambda row: order_key(row["query_id"]))[:DEMO_DOCSTRING_QUERIES]
    return sorted(chosen, key=lambda row: order_key(row["query"]))


def demo_row(test: Collection, question: Question, ranking: list[tuple[str, float]]) -> dict:
    """One query of the nested layout."""
    candidates = [
        {
            "doc_id": doc_id,
            "text": test.documents[doc_id],
            "retrieval_rank": rank,
            "retrieval_score": score,
            "relevance": int(doc_id in question.relevant),
        }
        for rank, (doc_id, score) in enumerate(ranking, start=1)
    ]
    return {"query_id": question.query_id, "query": question.query, "candidates": candidates}


def write_demo(rows: list[dict], path: Path) -> None:
    """Write the demo table; equal rows give an equal file."""
    table = pa.Table.from_pylist(rows, schema=DEMO_SCHEMA)
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=15,
        row_group_size=DEMO_ROW_GROUP,
        write_page_checksum=True,
    )


def measure(rows: list[dict], model, tokenizer) -> dict[str, dict[str, float]]:
    """nDCG@10 and MRR@10 of the first stage and of the model, over all queries and per kind of query."""
    judged = [(row, candidate) for row in rows for candidate in row["candidates"]]
    logits = score_pairs(model, tokenizer, [(row["query"], candidate["text"]) for row, candidate in judged])
    keys = [(row["query_id"], candidate["doc_id"]) for row, candidate in judged]
    qrels = [ir_measures.Qrel(*key, c["relevance"]) for key, (_, c) in zip(keys, judged, strict=True)]
    first = [-float(candidate["retrieval_rank"]) for _, candidate in judged]
    runs = {
        name: [ir_measures.ScoredDoc(*key, score) for key, score in zip(keys, scores, strict=True)]
        for name, scores in (("bm25", first), ("mini", logits))
    }
    return {f"{name} {kind}".strip(): figures(qrels, runs[name], kind) for name in runs for kind in KINDS}


def figures(qrels: list, run: list, kind: str) -> dict[str, float]:
    """Both measures over the queries whose id starts with the kind."""
    qrels = [qrel for qrel in qrels if qrel.query_id.startswith(kind)]
    run = [scored for scored in run if scored.query_id.startswith(kind)]
    found = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.RR @ 10], qrels, run)
    return {str(name): round(value, 4) for name, value in found.items()}
