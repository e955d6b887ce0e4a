"""Reranking in this process: one query, pairs, and a table. `python examples/python_api.py`"""

import polars as pl

from reranker_batch import Reranker, rerank_table

QUERY = "How do I read a file line by line?"
DOCUMENTS = [
    "The random module generates pseudo-random numbers.",
    "To read lines from a file, loop over the file object.",
]


def main() -> None:
    reranker = Reranker.open("builtin:mini")  # a hub id or a local folder for real work

    for result in reranker.rerank(QUERY, DOCUMENTS):
        print(result.rank, f"{result.relevance_score:.3f}", result.document)

    logits = reranker.score([(QUERY, document) for document in DOCUMENTS])
    print(logits, reranker.relevance(logits))

    table = pl.DataFrame({"query_id": "q1", "query": QUERY, "doc_id": ["d1", "d2"], "text": DOCUMENTS})
    print(rerank_table(table, model=reranker, layout="pairs", top_n=1))


if __name__ == "__main__":
    main()
