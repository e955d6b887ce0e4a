"""Model inputs: one object from the encoder that makes them to the scorer that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from reranker_batch.core.ragged import IntArray, LongArray, Ragged, offsets_of, positions_of


class ModelInputs(Protocol):
    """Inputs of a model, whatever they are made of. Only an encoder and a scorer of the same kind know more of them."""

    @property
    def costs(self) -> LongArray:
        """Tokens of each input: micro-batches are packed by them."""

    @property
    def groups(self) -> LongArray:
        """A number for each input; inputs with equal numbers have the same query."""

    @property
    def sizes(self) -> LongArray:
        """Logits that each input gives: one for a pair, one for each document of a request that is read at once."""

    def __len__(self) -> int: ...

    def take(self, rows: LongArray) -> ModelInputs:
        """Copy the inputs at `rows`, in that order. Group numbers are kept."""

    def distinct(self) -> tuple[LongArray, LongArray]:
        """Rows of inputs that differ, in order, and for every input its place among those."""

    def to_arrow(self) -> pa.Table:
        """The inputs as a table, to move them between processes. Nothing is copied."""


@dataclass(frozen=True)
class TokenInputs:
    """Inputs that are token ids, special tokens included; the arrays have an entry per input.

    Inputs of one group have the same first `prefix_tokens` ids, which a causal model needs to compute only once.
    """

    ids: Ragged
    groups: LongArray
    first_type_tokens: IntArray
    """Leading ids with token type 0; the rest has token type 1."""
    prefix_tokens: IntArray
    """Leading ids that do not depend on the document; 0 where the model cannot share them."""

    @classmethod
    def of_ids(cls, ids: Ragged) -> TokenInputs:
        """Inputs of one query, with a single token type and nothing to share."""
        groups = np.zeros(len(ids), dtype=np.int64)
        return cls(ids, groups, ids.lengths.astype(np.int32), groups.astype(np.int32))

    @classmethod
    def from_arrow(cls, table: pa.Table) -> TokenInputs:
        """View what `to_arrow` made. Nothing is copied if the table has one chunk."""
        if table.num_rows == 0:
            return cls.of_ids(Ragged.from_lists([]))
        if table["ids"].num_chunks > 1:
            table = table.combine_chunks()
        names = ("groups", "first_type_tokens", "prefix_tokens")
        return cls(Ragged.from_arrow(table["ids"].chunk(0)), *(table[name].to_numpy() for name in names))

    @property
    def costs(self) -> LongArray:
        return self.ids.lengths

    @property
    def sizes(self) -> LongArray:
        return np.ones(len(self.ids), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: LongArray) -> TokenInputs:
        return TokenInputs(
            self.ids.take(rows), self.groups[rows], self.first_type_tokens[rows], self.prefix_tokens[rows]
        )

    def distinct(self) -> tuple[LongArray, LongArray]:
        """Equal ids are equal pairs: special tokens separate the two texts, and a text never contains one."""
        return self.ids.distinct()

    def to_arrow(self) -> pa.Table:
        return pa.table(
            {
                "ids": self.ids.to_arrow(),
                "groups": self.groups,
                "first_type_tokens": self.first_type_tokens,
                "prefix_tokens": self.prefix_tokens,
            }
        )


def logit_places(inputs: ModelInputs, rows: LongArray) -> LongArray:
    """Where the logits of the inputs at `rows` are among those of all inputs."""
    sizes = inputs.sizes
    return positions_of(offsets_of(sizes)[rows], sizes[rows])


def input_of_logits(inputs: ModelInputs) -> LongArray:
    """The input that each logit is of."""
    return np.repeat(np.arange(len(inputs), dtype=np.int64), inputs.sizes)


def as_tokens(inputs: ModelInputs) -> TokenInputs:
    """The same inputs for code that reads the token ids of pairs."""
    assert isinstance(inputs, TokenInputs), f"{type(inputs).__name__} was given to a scorer of token ids"
    return inputs
