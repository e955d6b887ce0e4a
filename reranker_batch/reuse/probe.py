"""A look at some units before a run: whether anything is left to score, and a sample of what will be reused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.reuse.check import sample_of
from reranker_batch.reuse.lookup import Lookup


@dataclass(frozen=True)
class ReusedSample:
    """Texts of reused pairs, and the logits that they had."""

    queries: Sequence[str]
    documents: Sequence[str]
    logits: FloatArray

    def __len__(self) -> int:
        return len(self.logits)


@dataclass
class Probe:
    """Units are added one by one; the sample grows with them."""

    lookup: Lookup
    pairs: int = 0
    left: int = 0
    """Pairs that have to be scored."""
    _queries: list[str] = field(default_factory=list)
    _documents: list[str] = field(default_factory=list)
    _logits: list[FloatArray] = field(default_factory=list)

    def add(self, unit_id: str, rows: UnitRows, *, sample: int) -> None:
        """Look a unit up, or the first rows of one, and take `sample` of its reused pairs.

        Raises:
            CommitError: A memo part is missing or not the one on record.
        """
        texts = UnitTexts.of(rows)
        is_known, memo = self.lookup.find(unit_id, texts.keys())
        self.pairs += len(is_known)
        self.left += int((~is_known).sum())
        chosen = sample_of(is_known, sample)
        self._queries += texts.queries.take(pa.array(texts.query_at[chosen])).to_pylist()
        self._documents += texts.documents.take(pa.array(texts.document_at[chosen])).to_pylist()
        self._logits.append(memo["logit"][chosen])

    @property
    def sample(self) -> ReusedSample:
        logits = np.concatenate(self._logits) if self._logits else np.empty(0, dtype=np.float32)
        return ReusedSample(self._queries, self._documents, logits)
