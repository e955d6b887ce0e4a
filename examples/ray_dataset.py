"""Reranking as a stage of a Ray Dataset. `python examples/ray_dataset.py`"""

import pyarrow as pa
import ray

from reranker_batch import rerank_table

TABLE = pa.table(
    {
        "query_id": ["q1", "q2"],
        "query": ["How do I read a file line by line?", "How are lists sorted?"],
        "candidates": [
            [
                {"doc_id": "d1", "text": "The random module generates pseudo-random numbers."},
                {"doc_id": "d2", "text": "To read lines from a file, loop over the file object."},
            ],
            [
                {"doc_id": "d3", "text": "A tuple is an immutable sequence."},
                {"doc_id": "d4", "text": "list.sort() sorts a list in place."},
            ],
        ],
    }
)


def main() -> None:
    dataset = ray.data.from_arrow(TABLE)  # or ray.data.read_parquet("s3://bucket/candidates/")
    ranked = rerank_table(dataset, model="builtin:mini", top_n=1, replicas=1)  # computes nothing yet
    for row in sorted(ranked.take_all(), key=lambda row: row["query_id"]):
        print(row["query_id"], row["doc_id"], row["rank"])


if __name__ == "__main__":
    main()
