"""A look at some units before a run: whether anything is left to score, and a sample of what will be reused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import FloatArray
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.reuse.check import check, sample_of
from reranker_batch.reuse.lookup import Lookup
from reranker_batch.storage.output.scratch import Scratch

_SAMPLE = "sample"
ScoreTexts = Callable[[Sequence[str], Sequence[str]], FloatArray]
"""Logits of pairs given as queries and documents; NaN where a pair has none."""


@dataclass(frozen=True)
class ReusedSample:
    """Texts of reused pairs, and the logits that they had."""

    queries: Sequence[str]
    documents: Sequence[str]
    logits: FloatArray

    def __len__(self) -> int:
        return len(self.logits)

    def save(self, scratch: Scratch) -> None:
        """Raises CommitError when it cannot be written."""
        texts = [pa.array(texts, pa.large_string()) for texts in (self.queries, self.documents)]
        table = pa.table([*texts, pa.array(self.logits)], names=["query", "document", "logit"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        scratch.write(_SAMPLE, [sink.getvalue()])

    @classmethod
    def load(cls, scratch: Scratch) -> ReusedSample:
        """Raises CommitError when it cannot be read."""
        table: Any = pa.ipc.open_stream(scratch.content(_SAMPLE)).read_all()
        return cls(table["query"].to_pylist(), table["document"].to_pylist(), table["logit"].to_numpy())


@dataclass(frozen=True)
class SampleCheck:
    """The check that every replica makes when it has loaded its model. Travels between processes as a path alone."""

    scratch: Scratch
    dtype: str
    max_logit_difference: float | Literal["auto"]

    def run(self, score: ScoreTexts) -> ReuseCheck:
        """Score the sample again. Raises CommitError when it cannot be read."""
        sample = ReusedSample.load(self.scratch)
        rescored = score(sample.queries, sample.documents)
        return check(sample.logits, rescored, dtype=self.dtype, max_logit_difference=self.max_logit_difference)


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

    def merge(self, others: Iterable[Probe]) -> Probe:
        """Add what was seen in other units."""
        for other in others:
            self.pairs += other.pairs
            self.left += other.left
            self._queries += other._queries
            self._documents += other._documents
            self._logits += other._logits
        return self

    @property
    def sample(self) -> ReusedSample:
        logits = np.concatenate(self._logits) if self._logits else np.empty(0, dtype=np.float32)
        return ReusedSample(self._queries, self._documents, logits)
