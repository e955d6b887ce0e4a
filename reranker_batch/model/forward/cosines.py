"""From vectors of blocks to the scores of a request: cosines of its documents with its query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reranker_batch.core.pairs import FloatArray

_SMALLEST_NORM = 1e-8
"""A vector of no length has the cosine 0 with every other, as in torch."""
Vectors = npt.NDArray[np.floating[Any]]


def request_scores(blocks: Sequence[FloatArray]) -> FloatArray:
    """Scores of all documents of a request, in order; each block has a vector a document, and last that of its query.

    The query of several blocks is the mean of theirs, each weighted by its best document: the greatest (1 + cosine) / 2
    within the block. Computed in float64 and rounded once.
    """
    wide = [block.astype(np.float64) for block in blocks]
    query = wide[0][-1] if len(wide) == 1 else _mean_query(wide)
    documents = np.concatenate([block[:-1] for block in wide])
    return cosines(documents, query).astype(np.float32)


def _mean_query(blocks: Sequence[Vectors]) -> Vectors:
    weights = np.array([((1 + cosines(block[:-1], block[-1])) / 2).max() for block in blocks])
    if not weights.any():  # every document points away from its query
        weights = np.ones_like(weights)
    mean: Vectors = np.average([block[-1] for block in blocks], axis=0, weights=weights)
    return mean


def cosines(documents: Vectors, query: Vectors) -> Vectors:
    """Cosines of shape [documents]; no number where a vector has none."""
    with np.errstate(invalid="ignore", over="ignore"):
        norms = np.maximum(np.linalg.norm(documents, axis=1), _SMALLEST_NORM)
        result: Vectors = documents @ query / (norms * max(float(np.linalg.norm(query)), _SMALLEST_NORM))
    return result
