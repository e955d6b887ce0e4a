"""Predictions of MTEB: one JSON object with the scores of every query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from reranker_batch.errors import ConfigError
from reranker_batch.exporting.formats import Exported, Format, Options, in_one_file
from reranker_batch.exporting.rankings import Ranked, Rankings, read_rankings

_META = "mteb_model_meta"


def _write(output: Ranked, options: Options, exported: Exported) -> Iterator[bytes]:
    """`{mteb_model_meta, SUBSET: {SPLIT: {query_id: {doc_id: score}}}}`, as MTEB saves and loads predictions.

    A query's documents stand by rank, and its scores decrease strictly as float32.
    """
    subset, split = options.get("subset", "default"), options.get("split", "test")
    if subset == _META:
        raise ConfigError(f"--subset {subset}: MTEB keeps this name for the model. Name the subset of the task.")
    name, revision = output.model
    meta = json.dumps({_META: {"model_name": name, "revision": revision}})
    yield f"{meta[:-1]}, {json.dumps(subset)}: {{{json.dumps(split)}: {{".encode()
    separator = "\n"
    for rankings in read_rankings(output, exported):
        for query in _queries(rankings):
            yield (separator + query).encode()
            separator = ",\n"
    yield b"\n}}}\n"


def _queries(rankings: Rankings) -> Iterator[str]:
    starts = np.flatnonzero(rankings.ranks == 1)
    bounds = [*starts.tolist(), len(rankings.ranks)]
    query_ids, doc_ids = rankings.query_ids.to_pylist(), rankings.doc_ids.to_pylist()
    scores = rankings.scores.astype(np.float64).tolist()
    for start, stop in pairwise(bounds):
        of_query = dict(zip(doc_ids[start:stop], scores[start:stop], strict=True))
        yield f"{json.dumps(query_ids[start])}: {json.dumps(of_query)}"


MTEB = Format("mteb", in_one_file(_write), options=("subset", "split"))
