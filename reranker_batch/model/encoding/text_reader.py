"""Texts to token ids, in bulk, none of them a control token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import IntArray, Ragged, offsets_of
from reranker_batch.model.encoding.canaries import PLAIN_TEXTS
from reranker_batch.model.encoding.control_tokens import ControlTokens

_TEXTS_A_CALL = 1024
"""Texts given to the tokenizer at once: bounds the memory of its results, which hold more than ids."""
_CHARACTERS_A_TOKEN = 16
"""More than ordinary text has; if a beginning has too few tokens, the whole text is read."""


@dataclass(frozen=True)
class TextReader:
    """Ids of texts without special tokens, none of them a control token."""

    backend: Tokenizer
    control: ControlTokens

    @cached_property
    def splits_at_spaces(self) -> bool:
        """Whether the tokens before a single space never depend on what follows it.

        Decided by how the tokenizer splits words, and checked on every single space of the canary texts.
        """
        pre_tokenizer = self.backend.pre_tokenizer
        if pre_tokenizer is None or len(pre_tokenizer.pre_tokenize_str("two words")) < 2:
            return False
        beginnings = [(text, text[:at]) for text in PLAIN_TEXTS for at in range(1, len(text)) if text[at] == " "]
        whole = self.backend.encode_batch_fast([text for text, _ in beginnings], add_special_tokens=False)
        parts = self.backend.encode_batch_fast([part for _, part in beginnings], add_special_tokens=False)
        return all(one.ids[: len(part.ids)] == part.ids for one, part in zip(whole, parts, strict=True))

    def read(self, texts: Sequence[str], *, more_than: int | None = None) -> Ragged:
        """Token ids of each text; with `more_than`, of a longer text at least the first `more_than` + 1.

        The tokenizer reads a text to its end before it cuts (huggingface/tokenizers#1573), so a text that is far too
        long is cut first, where that changes no token that is asked for.
        """
        parts = []
        for at in range(0, len(texts), _TEXTS_A_CALL):
            some = texts[at : at + _TEXTS_A_CALL]
            parts.append(self._read(some) if more_than is None else self._read_beginnings(some, more_than))
        return concatenate(parts)

    def read_cut(self, texts: Sequence[str], *, max_tokens: int | None) -> tuple[Ragged, BoolArray]:
        """Token ids of each text, cut after `max_tokens`, and which texts were cut."""
        tokens = self.read(texts, more_than=max_tokens)
        if max_tokens is None:
            return tokens, np.zeros(len(texts), dtype=np.bool_)
        lengths = tokens.lengths
        is_cut = lengths > max_tokens
        return (tokens.head(np.minimum(lengths, max_tokens)) if is_cut.any() else tokens), is_cut

    def starts(self, texts: Sequence[str], *, max_tokens: int | None) -> Ragged:
        """The character at which each token begins, and the one at which the last of the first `max_tokens` ends."""
        if max_tokens is None or not self.splits_at_spaces:
            return Ragged.from_lists(token_starts(self.backend, self.control, text, max_tokens) for text in texts)
        beginnings = [_beginning(text, max_tokens * _CHARACTERS_A_TOKEN) for text in texts]
        starts = [token_starts(self.backend, self.control, text, max_tokens) for text in beginnings]
        return Ragged.from_lists(
            token_starts(self.backend, self.control, text, max_tokens)
            if len(begun) < len(text) and len(of_begun) <= max_tokens
            else of_begun
            for text, begun, of_begun in zip(texts, beginnings, starts, strict=True)
        )

    def _read(self, texts: Sequence[str]) -> Ragged:
        return self.control.spell_out(_read(self.backend, texts))

    def _read_beginnings(self, texts: Sequence[str], more_than: int) -> Ragged:
        characters = more_than * _CHARACTERS_A_TOKEN
        if all(len(text) <= characters for text in texts) or not self.splits_at_spaces:
            return self._read(texts)
        beginnings = [_beginning(text, characters) for text in texts]
        tokens = self._read(beginnings)
        is_short = np.array(
            [len(part) < len(text) for part, text in zip(beginnings, texts, strict=True)], dtype=np.bool_
        )
        again = np.flatnonzero(is_short & (tokens.lengths <= more_than)).tolist()
        if not again:
            return tokens
        whole = self._read([texts[at] for at in again])
        place = np.arange(len(texts))
        place[again] = len(texts) + np.arange(len(again))
        return concatenate([tokens, whole]).take(place)

    def input_id_limit(self, template_ids: Sequence[int]) -> int:
        """One more than the largest id that texts or the template can give."""
        ids = set(self.backend.get_vocab(with_added_tokens=True).values()) - self.control.ids
        return max(ids | set(template_ids)) + 1


def token_starts(backend: Tokenizer, control: ControlTokens, text: str, max_tokens: int | None) -> list[int]:
    """See `TextReader.starts`; a control token that is spelled out begins where it stands, with all its pieces."""
    encoding = backend.encode(text, add_special_tokens=False)
    starts = [
        start
        for token_id, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
        for _ in control.spell(token_id)
    ]
    if max_tokens is None or len(starts) <= max_tokens:
        return [*starts, len(text)]
    return starts[: max_tokens + 1]


def spell_tokens(backend: Tokenizer, ids: Sequence[int] | IntArray) -> str:
    """The tokens of ids as the vocabulary writes them."""
    return " ".join(str(backend.id_to_token(int(token_id))) for token_id in ids)


def _beginning(text: str, characters: int) -> str:
    """The text up to the last single space within so many characters; the whole text if there is none."""
    if len(text) <= characters:
        return text
    at = text.rfind(" ", 0, characters)
    while at > 0 and (text[at - 1].isspace() or text[at + 1].isspace()):
        at = text.rfind(" ", 0, at)
    return text[:at] if at > 0 else text


def _read(backend: Tokenizer, texts: Sequence[str]) -> Ragged:
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    lengths = np.fromiter((len(encoding) for encoding in encodings), dtype=np.int64, count=len(encodings))
    ids = chain.from_iterable(encoding.ids for encoding in encodings)
    return Ragged(np.fromiter(ids, dtype=np.int32, count=int(lengths.sum())), offsets_of(lengths))


def concatenate(parts: Sequence[Ragged]) -> Ragged:
    """The lists of all parts, in order."""
    if not parts:
        return Ragged.from_lists([])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, offsets_of(np.concatenate([part.lengths for part in parts])))
