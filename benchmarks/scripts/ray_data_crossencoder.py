"""The script that people write today for more than one machine: Ray Data and sentence-transformers in actors.

python ray_data_crossencoder.py INPUT.parquet OUTPUT_FOLDER MODEL DTYPE
"""

import os
import sys

import pandas as pd
import ray
import torch
from sentence_transformers import CrossEncoder


class Score:
    def __init__(self, name, dtype):
        torch.set_num_threads(os.cpu_count())
        self.model = CrossEncoder(name, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})

    def __call__(self, batch):
        batch["score"] = self.model.predict(list(zip(batch["query"], batch["text"], strict=True)))
        return batch


def pairs_of(row):
    return [{"query_id": row["query_id"], "query": row["query"], **candidate} for candidate in row["candidates"]]


def best_of(group: pd.DataFrame) -> pd.DataFrame:
    return group.nlargest(10, "score")[["query_id", "doc_id", "score"]]


if __name__ == "__main__":
    source, target, name, dtype = sys.argv[1:]
    pairs = ray.data.read_parquet(source).flat_map(pairs_of)
    scored = pairs.map_batches(Score, fn_constructor_args=[name, dtype], batch_size=256, concurrency=1)
    scored.groupby("query_id").map_groups(best_of, batch_format="pandas").write_parquet(target)
