"""What decides the rows and columns of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reranker_batch.core.activation import Activation
from reranker_batch.core.limits import LongDocuments


@dataclass(frozen=True)
class ResultSettings:
    """Settings of the output that every unit needs."""

    layout: Literal["pairs", "nested"]
    top_n: int | None
    return_documents: bool
    activation: Activation
    passthrough: Sequence[str]
    long_documents: LongDocuments = "truncate"

    @property
    def has_chunks(self) -> bool:
        return self.long_documents == "max_chunk"
