"""datasets: writes Parquet, JSON lines and CSV of every nested layout, loads exported JSON lines."""

from pathlib import Path

from datasets import Dataset, load_dataset
from sample import CORPUS, QUERIES, RUN, answer, case, main, ranked, text_of

EXPECTED = answer()


def write(folder: Path) -> None:
    run = ranked(RUN)
    nested = [
        {
            "query_id": query,
            "query": QUERIES[query],
            "candidates": [{"doc_id": d, "text": text_of(d)} for d in run[query]],
        }
        for query in sorted(run)
    ]
    parallel = [
        {
            "_id": row["query_id"],
            "query": row["query"],
            "candidate_ids": [candidate["doc_id"] for candidate in row["candidates"]],
            "candidate_docs": [candidate["text"] for candidate in row["candidates"]],
        }
        for row in nested
    ]
    passages = [
        {
            "query_id": row["query_id"],
            "query": row["query"],
            "positive_passages": [{"docid": d, **CORPUS[d]} for d in run[row["query_id"]][:1]],
            "negative_passages": [{"docid": d, **CORPUS[d]} for d in run[row["query_id"]][1:]],
        }
        for row in nested
    ]
    pairs = [
        {"query_id": row["query_id"], "query": row["query"], **candidate}
        for row in nested
        for candidate in row["candidates"]
    ]
    plain = {"input": {"path": "data.parquet"}}
    Dataset.from_list(nested).to_parquet(case(folder, "nested_parquet", plain, EXPECTED) / "data.parquet")
    lines = {"input": {"path": "data.jsonl"}}
    Dataset.from_list(nested).to_json(case(folder, "nested_json", lines, EXPECTED) / "data.jsonl")
    packed = {"input": {"path": "data.jsonl.gz"}}
    goal = case(folder, "nested_json_gz", packed, EXPECTED) / "data.jsonl.gz"
    Dataset.from_list(nested).to_json(goal, compression="gzip")
    by_lists = {"input": {"path": "data.parquet", "format": "parallel-lists"}}
    Dataset.from_list(parallel).to_parquet(case(folder, "parallel_lists", by_lists, EXPECTED) / "data.parquet")
    tevatron = {"input": {"path": "data.jsonl", "format": "tevatron"}}
    Dataset.from_list(passages).to_json(case(folder, "tevatron", tevatron, EXPECTED) / "data.jsonl")
    table = {"input": {"path": "data.csv", "layout": "pairs"}}
    Dataset.from_list(pairs).to_csv(case(folder, "pairs_csv", table, EXPECTED) / "data.csv", index=False)


def read(exports: Path) -> dict[str, dict[str, list[str]]]:
    rows = load_dataset(
        "json", data_files=str(exports / "results.jsonl"), split="train", cache_dir=str(exports / "cache")
    )
    run = load_dataset(
        "csv",
        data_files=str(exports / "run.msmarco.tsv"),
        sep="\t",
        header=None,
        split="train",
        names=["query", "doc", "rank"],
        cache_dir=str(exports / "cache"),
    )
    by_query: dict[str, list[str]] = {}
    for row in sorted(run, key=lambda row: row["rank"]):
        by_query.setdefault(row["query"], []).append(row["doc"])
    return {
        "load_dataset json": {row["query_id"]: [result["doc_id"] for result in row["results"]] for row in rows},
        "load_dataset csv": by_query,
    }


if __name__ == "__main__":
    main(write, read)
