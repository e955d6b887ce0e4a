"""A look at some units before a run: whether anything is left to score, and a sample of what will be reused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from reranker_batch.core.pair_texts import UnitTexts
from reranker_batch.core.pairs import BoolArray, FloatArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.reuse import ReuseCheck
from reranker_batch.core.unit_rows import UnitRows
from reranker_batch.reuse.check import check, sample_of, sample_of_lists
from reranker_batch.reuse.lookup import Lookup
from reranker_batch.storage.output.scratch import Scratch

_SAMPLE = "sample"
ScoreTexts = Callable[[Sequence[str], Sequence[str], LongArray], FloatArray]
"""Logits of pairs given as queries, documents and the number of the list that each is in; NaN where a pair has none."""


@dataclass(frozen=True)
class ReusedSample:
    """Texts of reused pairs, and the logits that they had."""

    queries: Sequence[str]
    documents: Sequence[str]
    begins: BoolArray
    """Whether a pair is the first of its list."""
    logits: FloatArray

    def __len__(self) -> int:
        return len(self.logits)

    def save(self, scratch: Scratch) -> None:
        """Raises CommitError when it cannot be written."""
        texts = [pa.array(texts, pa.large_string()) for texts in (self.queries, self.documents)]
        columns = [*texts, pa.array(self.begins), pa.array(self.logits)]
        table = pa.table(columns, names=["query", "document", "begins", "logit"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        scratch.write(_SAMPLE, [sink.getvalue()])

    @classmethod
    def load(cls, scratch: Scratch) -> ReusedSample:
        """Raises CommitError when it cannot be read."""
        table: Any = pa.ipc.open_stream(scratch.content(_SAMPLE)).read_all()
        begins, logits = table["begins"].to_numpy(), table["logit"].to_numpy()
        return cls(table["query"].to_pylist(), table["document"].to_pylist(), begins, logits)


@dataclass(frozen=True)
class SampleCheck:
    """The check that every replica makes when it has loaded its model. Travels between processes as a path alone."""

    scratch: Scratch
    dtype: str
    max_logit_difference: float | Literal["auto"]

    def run(self, score: ScoreTexts) -> ReuseCheck:
        """Score the sample again. Raises CommitError when it cannot be read."""
        sample = ReusedSample.load(self.scratch)
        rescored = score(sample.queries, sample.documents, np.cumsum(sample.begins))
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
    _begins: list[BoolArray] = field(default_factory=list)
    _logits: list[FloatArray] = field(default_factory=list)

    def add(self, unit_id: str, rows: UnitRows, *, sample: int) -> None:
        """Look a unit up, or the first rows of one, and take `sample` of its reused pairs.

        Raises:
            CommitError: A memo part is missing or not the one on record.
        """
        texts, list_at = UnitTexts.of(rows), rows.candidates["query_at"].to_numpy()
        is_listwise = self.lookup.is_listwise
        is_known, memo = self.lookup.find(unit_id, texts.keys(list_at if is_listwise else None))
        self.pairs += len(is_known)
        self.left += int((~is_known).sum())
        chosen = sample_of_lists(is_known, list_at, sample) if is_listwise else sample_of(is_known, sample)
        self._begins.append(np.diff(list_at[chosen], prepend=-1) != 0)
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
            self._begins += other._begins
            self._logits += other._logits
        return self

    @property
    def sample(self) -> ReusedSample:
        begins = np.concatenate([np.empty(0, dtype=np.bool_), *self._begins])
        logits = np.concatenate([np.empty(0, dtype=np.float32), *self._logits])
        return ReusedSample(self._queries, self._documents, begins, logits)
