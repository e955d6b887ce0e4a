"""Texts to token ids, in bulk, none of them a control token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.ragged import Ragged, offsets_of
from reranker_batch.model.control_tokens import ControlTokens

_TEXTS_A_CALL = 1024
"""Texts given to the tokenizer at once: bounds the memory of what it says beside the ids."""


@dataclass(frozen=True)
class TextReader:
    """Ids of texts without special tokens, none of them a control token."""

    backend: Tokenizer
    control: ControlTokens

    def read(self, texts: Sequence[str]) -> Ragged:
        """Token ids of each text, whole."""
        parts = [_read(self.backend, texts[at : at + _TEXTS_A_CALL]) for at in range(0, len(texts), _TEXTS_A_CALL)]
        return self.control.spell_out(_concatenate(parts))

    def input_id_limit(self, template_ids: Sequence[int]) -> int:
        """One more than the largest id that texts or the template can give."""
        ids = set(self.backend.get_vocab(with_added_tokens=True).values()) - self.control.ids
        return max(ids | set(template_ids)) + 1


def _read(backend: Tokenizer, texts: Sequence[str]) -> Ragged:
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    lengths = np.fromiter((len(encoding) for encoding in encodings), dtype=np.int64, count=len(encodings))
    ids = chain.from_iterable(encoding.ids for encoding in encodings)
    return Ragged(np.fromiter(ids, dtype=np.int32, count=int(lengths.sum())), offsets_of(lengths))


def _concatenate(parts: Sequence[Ragged]) -> Ragged:
    if not parts:
        return Ragged.from_lists([])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, offsets_of(np.concatenate([part.lengths for part in parts])))
