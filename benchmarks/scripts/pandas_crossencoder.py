"""The script that people write today: pandas and sentence-transformers, all in one process.

python pandas_crossencoder.py INPUT.parquet OUTPUT.parquet MODEL DTYPE
"""

import sys

import pandas as pd
import torch
from sentence_transformers import CrossEncoder

source, target, name, dtype = sys.argv[1:]
rows = pd.read_parquet(source).explode("candidates", ignore_index=True)
rows["doc_id"] = [candidate["doc_id"] for candidate in rows["candidates"]]
rows["text"] = [candidate["text"] for candidate in rows["candidates"]]
model = CrossEncoder(name, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
rows["score"] = model.predict(list(zip(rows["query"], rows["text"], strict=True)))
best = rows.sort_values(["query_id", "score"], ascending=[True, False]).groupby("query_id").head(10)
best[["query_id", "doc_id", "score"]].to_parquet(target)
