"""Where a document that is too long for one model input is cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reranker_batch.core.ragged import LongArray

MAX_CHUNKS = 8
"""Of one document. A longer one is read at as many places, spread evenly over it."""
CHUNKS_VERSION = 1
"""Raised whenever the same text and limits would give other chunks than before."""
_OVERLAP_TOKENS = 64
_SHORT_MODEL_TOKENS = 512
_LONG_WINDOW_TOKENS = 1024
_SENTENCE_SHARE = 0.15
"""Of a chunk, its last part, in which a sentence end is looked for."""
_WORD_TOKENS = 16
"""So many tokens after the overlap begins, the beginning of a word is looked for."""
_ENDS = ".!?…"
_WIDE_ENDS = "\u3002\uff01\uff1f"
"""Sentence ends of Chinese and Japanese, which need no space behind them."""
_CLOSING = "\"'\u201d\u2019»)]"


@dataclass(frozen=True)
class Chunk:
    """A piece of a text: `start` up to `stop` are characters, `first` up to `last` its tokens in the whole text."""

    start: int
    stop: int
    first: int
    last: int


def window_tokens(max_pair_tokens: int, document_tokens: LongArray) -> LongArray:
    """Document tokens of a chunk, for pairs of which the model reads `document_tokens` of a longer document.

    A model of at most 512 tokens reads as many as fit with the query, one of more tokens at most 1,024.
    """
    if max_pair_tokens <= _SHORT_MODEL_TOKENS:
        return document_tokens
    return np.minimum(document_tokens, _LONG_WINDOW_TOKENS)


def cut_chunks(text: str, starts: LongArray, window: int) -> list[Chunk]:
    """Cut a text of more than `window` tokens into at most `MAX_CHUNKS` chunks, which overlap by up to 64 tokens.

    `starts` has the character at which each token begins, and after them the character at which the last one ends; it
    has shape [tokens + 1]. A chunk ends at a sentence end if there is one in its last 15 %, and begins at a word. The
    last chunk has `window` tokens and ends with the text. The text of a longer document is not all read.
    """
    cutter = _Cutter(text, starts, window)
    bounds = cutter.following() or cutter.spread()
    return [_chunk(text, starts, first, last) for first, last in bounds]


@dataclass(frozen=True)
class _Cutter:
    """Bounds are token numbers."""

    text: str
    starts: LongArray
    window: int

    @property
    def num_tokens(self) -> int:
        return len(self.starts) - 1

    @property
    def last_first(self) -> int:
        """Where the last chunk begins."""
        return max(0, self.num_tokens - self.window)

    def following(self) -> list[tuple[int, int]] | None:
        """Chunks one after the other; None if they are too many."""
        bounds: list[tuple[int, int]] = []
        first = 0
        overlap = min(_OVERLAP_TOKENS, self.window // 4)
        while first < self.last_first:
            if len(bounds) == MAX_CHUNKS - 1:
                return None
            stop = self._sentence_stop(first, first + self.window)
            bounds.append((first, stop))
            first = self._word_start(stop - overlap, stop)
        return [*bounds, (self.last_first, self.num_tokens)]

    def spread(self) -> list[tuple[int, int]]:
        """As many chunks as there may be, at equal distances."""
        places = np.linspace(0, self.last_first, MAX_CHUNKS).round().astype(np.int64).tolist()
        firsts = [self._word_start(place, place + self.window // 4) for place in places[:-1]]
        bounds = []
        for first, after in zip(firsts, [*firsts[1:], self.last_first], strict=True):
            stop = self._sentence_stop(first, first + self.window)
            bounds.append((first, max(stop, after) if after <= first + self.window else stop))
        return [*bounds, (self.last_first, self.num_tokens)]

    def _sentence_stop(self, first: int, stop: int) -> int:
        """The last token in the last part of a chunk before which a sentence ends, else `stop`."""
        earliest = stop - int(self.window * _SENTENCE_SHARE)
        for token in range(stop, max(earliest, first + 1) - 1, -1):
            if _ends_sentence(self.text, int(self.starts[token])):
                return token
        return stop

    def _word_start(self, token: int, latest: int) -> int:
        """The first token from here on with which a word begins, else `token`."""
        for place in range(token, min(latest, token + _WORD_TOKENS)):
            if _begins_word(self.text, int(self.starts[place])):
                return place
        return token


def _ends_sentence(text: str, at: int) -> bool:
    """Whether the text before a character ends with a sentence or a line."""
    before = text[max(0, at - 16) : at]
    stripped = before.rstrip()
    space = before[len(stripped) :] + text[at : at + 1]
    if "\n" in space:
        return True
    bare = stripped.rstrip(_CLOSING)
    return bare.endswith(tuple(_WIDE_ENDS)) or (bare.endswith(tuple(_ENDS)) and space[:1].isspace())


def _begins_word(text: str, at: int) -> bool:
    return at == 0 or text[at : at + 1].isspace() or text[at - 1].isspace()


def _chunk(text: str, starts: LongArray, first: int, last: int) -> Chunk:
    """Without the spaces around it; all of it where there is nothing else."""
    start, stop = int(starts[first]), int(starts[last])
    whole = text[start:stop]
    bare = whole.strip()
    if not bare:
        return Chunk(start, stop, first, last)
    start += len(whole) - len(whole.lstrip())
    return Chunk(start, start + len(bare), first, last)


def tokens_in(chunks: Sequence[Chunk]) -> int:
    """Tokens of the text that are in at least one of its chunks, which are in order."""
    count = last = 0
    for chunk in chunks:
        count += max(0, chunk.last - max(last, chunk.first))
        last = max(last, chunk.last)
    return count
