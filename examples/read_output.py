"""The best document of each query, from an output with `output.layout: pairs`, by four libraries.

`python examples/read_output.py OUTPUT polars`, or `pandas`, `duckdb`, `spark`. Copy the function that you need.
"""

import sys
from pathlib import Path
from typing import Any


def with_polars(output: str) -> Any:
    import polars as pl

    scores = pl.scan_parquet(f"{output}/scores/*.parquet")
    return scores.filter(pl.col("rank") == 1).select("query_id", "doc_id", "relevance_score").collect()


def with_pandas(output: str) -> Any:
    import pandas as pd

    columns = ["query_id", "doc_id", "relevance_score"]
    scores = pd.read_parquet(f"{output}/scores", columns=[*columns, "rank"])
    return scores[scores["rank"] == 1][columns]


def with_duckdb(output: str) -> Any:
    import duckdb

    scores = duckdb.read_parquet(f"{output}/scores/*.parquet")
    return scores.filter("rank = 1").select("query_id, doc_id, relevance_score")


def with_spark(output: str) -> Any:
    from pyspark.sql import SparkSession

    scores = SparkSession.builder.getOrCreate().read.parquet(f"{output}/scores")
    return scores.where("rank = 1").select("query_id", "doc_id", "relevance_score")


READERS = {"polars": with_polars, "pandas": with_pandas, "duckdb": with_duckdb, "spark": with_spark}


def main(output: str, library: str) -> None:
    if not Path(output, "scores", "_SUCCESS").exists():
        sys.exit(f"{output} is not complete: `reranker-batch status {output}` says why.")
    best = READERS[library](output)
    best.show() if library == "spark" else print(best)


if __name__ == "__main__":
    main(*sys.argv[1:])
