"""Where long documents are cut, on texts whose tokens are words."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.chunks import MAX_CHUNKS, Chunk, cut_chunks, tokens_in, window_tokens
from reranker_batch.core.ragged import LongArray


def words(text: str) -> LongArray:
    """A token is a word."""
    return np.array([*(match.start() for match in re.finditer(r"\S+", text)), len(text)], dtype=np.int64)


def numbered(count: int, *, ends: frozenset[int] = frozenset()) -> str:
    return " ".join(f"w{at}." if at in ends else f"w{at}" for at in range(count))


def texts_of(text: str, chunks: list[Chunk]) -> list[str]:
    return [text[chunk.start : chunk.stop] for chunk in chunks]


def test_chunks_overlap_and_the_last_is_a_full_window_to_the_end() -> None:
    text = numbered(1000)
    chunks = cut_chunks(text, words(text), 400)
    assert [(chunk.first, chunk.last) for chunk in chunks] == [(0, 400), (336, 736), (600, 1000)]
    assert texts_of(text, chunks)[1] == " ".join(f"w{at}" for at in range(336, 736))
    assert tokens_in(chunks) == 1000


def test_a_chunk_ends_at_the_last_sentence_end_of_its_last_part() -> None:
    text = numbered(1000, ends=frozenset({339, 350, 380}))
    first = cut_chunks(text, words(text), 400)[0]
    assert text[first.start : first.stop].endswith(" w380.")
    early = numbered(1000, ends=frozenset({338}))
    assert cut_chunks(early, words(early), 400)[0].last == 400


@pytest.mark.parametrize("end", ['w390!"', "w390?)", "w390…", "w390\u3002"])
def test_sentences_end_with_other_marks_too(end: str) -> None:
    text = numbered(1000).replace("w390 ", f"{end} ")
    assert cut_chunks(text, words(text), 400)[0].last == 391


def test_a_line_ends_as_a_sentence_does_and_a_number_does_not() -> None:
    lines = numbered(1000).replace("w390 ", "w390\n")
    assert cut_chunks(lines, words(lines), 400)[0].last == 391
    starts = np.arange(2001, dtype=np.int64)
    digits = "3.14159 " * 250
    assert cut_chunks(digits, starts, 400)[0].last == 400


def test_a_much_longer_document_is_read_at_eight_places_spread_over_it() -> None:
    text = numbered(20_000)
    chunks = cut_chunks(text, words(text), 400)
    assert len(chunks) == MAX_CHUNKS
    assert (chunks[0].first, chunks[-1].last) == (0, 20_000)
    gaps = np.diff([chunk.first for chunk in chunks])
    assert gaps.max() - gaps.min() <= 1
    assert tokens_in(chunks) == MAX_CHUNKS * 400


def test_a_short_model_reads_what_fits_and_a_long_one_1024_tokens_at_once() -> None:
    assert window_tokens(512, np.array([480, 300])).tolist() == [480, 300]
    assert window_tokens(8192, np.array([8100, 500])).tolist() == [1024, 500]


@given(
    pieces=st.lists(st.sampled_from(["a", "bb", "ccc.", "dd!", "e\n", "好。", "f  ", "¿g?"]), min_size=2, max_size=900),
    window=st.integers(1, 300),
    by_character=st.booleans(),
)
def test_chunks_are_within_the_window_in_order_and_read_all_of_what_fits(
    pieces: list[str], window: int, by_character: bool
) -> None:
    text = "".join(pieces) if by_character else " ".join(pieces)
    starts = np.arange(len(text) + 1, dtype=np.int64) if by_character else words(text)
    num = len(starts) - 1
    if num <= window:
        return
    chunks = cut_chunks(text, starts, window)
    assert 2 <= len(chunks) <= MAX_CHUNKS
    assert all(0 < chunk.last - chunk.first <= window for chunk in chunks)
    assert [chunk.first for chunk in chunks] == sorted({chunk.first for chunk in chunks})
    assert (chunks[0].first, chunks[-1].first, chunks[-1].last) == (0, num - window, num)
    assert all(0 <= chunk.start <= chunk.stop <= len(text) for chunk in chunks)
    overlap = min(64, window // 4)
    if num <= MAX_CHUNKS * (window - overlap - int(window * 0.15)):
        assert tokens_in(chunks) == num
