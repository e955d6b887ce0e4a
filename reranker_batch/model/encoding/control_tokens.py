"""Text is never read as control tokens: whatever spells `</s>` or `[SEP]` becomes ordinary pieces.

A tokenizer can be told not to look for its special tokens in a text, but the vocabulary of a Unigram or a
BPE model may contain `</s>` as an ordinary piece, which the text `</s>` then still becomes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.ragged import IntArray, Ragged, offsets_of


class ControlTokens:
    """Ids that control the model, and ordinary ids for the same characters."""

    def __init__(self, spellings: Mapping[int, tuple[int, ...]]) -> None:
        self._spellings = spellings
        self._counts = np.ones(max(spellings, default=0) + 1, dtype=np.int64)
        for token_id, pieces in spellings.items():
            self._counts[token_id] = len(pieces)
        self._ids = np.array(sorted(spellings), dtype=np.int32)

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(self._spellings)

    def spell(self, token_id: int) -> tuple[int, ...]:
        """The ids that replace one id of a text; an ordinary id is kept."""
        return self._spellings.get(token_id, (token_id,))

    def spell_out(self, tokens: Ragged) -> Ragged:
        """Replace every control id in the ids of texts. Texts without one are left as they are."""
        is_control = np.isin(tokens.values, self._ids)
        if not is_control.any():
            return tokens
        counts = np.where(is_control, self._counts[np.where(is_control, tokens.values, 0)], 1)
        starts = offsets_of(counts)
        values = np.repeat(tokens.values, counts)
        for token_id in np.unique(tokens.values[is_control]):
            self._write(values, starts[:-1][tokens.values == token_id], int(token_id))
        return Ragged(values, starts[tokens.offsets])

    def _write(self, values: IntArray, starts: np.ndarray, token_id: int) -> None:
        for shift, piece in enumerate(self._spellings[token_id]):
            values[starts + shift] = piece


def find_control_tokens(
    backend: Tokenizer, special_ids: Collection[int], template_ids: Collection[int]
) -> ControlTokens:
    """All special tokens but the one for unknown characters, each with its ordinary spelling.

    An unknown token that the template uses too is a control token as well.
    """
    unknown_id = _unknown_id(backend)
    added = {token_id for token_id, token in backend.get_added_tokens_decoder().items() if token.special}
    control = (added | set(special_ids)) - {unknown_id} | set(template_ids)
    speller = _Speller(backend, control, unknown_id)
    return ControlTokens({token_id: speller.spell(backend.id_to_token(token_id) or "") for token_id in control})


class _Speller:
    """Spells a string by the longest ordinary pieces of the vocabulary, from the left."""

    def __init__(self, backend: Tokenizer, control: Collection[int], unknown_id: int | None) -> None:
        added = backend.get_added_tokens_decoder()
        self._pieces = {
            piece: token_id
            for piece, token_id in backend.get_vocab(with_added_tokens=False).items()
            if token_id not in control and token_id not in added
        }
        self._continued = getattr(backend.model, "continuing_subword_prefix", None) or ""
        self._unknown_id = None if unknown_id in control else unknown_id

    def spell(self, text: str) -> tuple[int, ...]:
        ids: list[int] = []
        start = 0
        while start < len(text):
            end = next((end for end in range(len(text), start, -1) if self._find(text, start, end) is not None), None)
            piece = None if end is None else self._find(text, start, end)
            ids.extend(self._spell_char(text[start]) if piece is None else (piece,))
            start = start + 1 if end is None else end
        return tuple(ids)

    def _find(self, text: str, start: int, end: int) -> int | None:
        piece = text[start:end]
        return self._pieces.get(self._continued + piece if start else piece)

    def _spell_char(self, char: str) -> tuple[int, ...]:
        in_bytes = [self._pieces.get(f"<0x{byte:02X}>") for byte in char.encode("utf-8")]
        if None not in in_bytes:
            return tuple(item for item in in_bytes if item is not None)
        return () if self._unknown_id is None else (self._unknown_id,)


def _unknown_id(backend: Tokenizer) -> int | None:
    model = json.loads(backend.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else backend.token_to_id(token)
