"""Pairs to score, cut from the text of the demo table that ships with the package: equal on every machine.

Three mixtures of lengths. `short` is like MS MARCO's passages, `mixed` is what a table of web pages or tickets
looks like, `long` goes up to what the model reads. Every pair has a document of its own; 25 neighbours share a query.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Tokenizer

DEMO = Path(__file__).parents[1] / "reranker_batch" / "builtin" / "demo.parquet"
NAMES = ("short", "mixed", "long")
DOCUMENTS_A_QUERY = 25
SLACK = 3
"""Tokens that a pair may be shorter than drawn, because documents end between words."""
MIN_DOCUMENT_TOKENS = 8


@dataclass(frozen=True)
class Workload:
    """Pairs with the tokens of each, special tokens included, as the model's tokenizer counts them."""

    name: str
    pairs: list[tuple[str, str]]
    tokens: list[int]


def bounds_of(name: str, max_tokens: int) -> tuple[int, int]:
    """The fewest and the most tokens of a pair."""
    known = {"short": (60, 120), "mixed": (12, 512), "long": (max_tokens // 8, max_tokens)}
    low, high = known[name]
    return min(low, max_tokens // 8), min(high, max_tokens)


def build(name: str, tokenizer: Tokenizer, *, num_pairs: int, max_tokens: int, seed: int = 0) -> Workload:
    """Draw pairs whose lengths are within `bounds_of(name)`; equal arguments give equal pairs."""
    rng = random.Random(f"{name} {seed}")
    low, high = bounds_of(name, max_tokens)
    queries, words = read_texts(rng)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = tokenizer.num_special_tokens_to_add(is_pair=True)
    query_tokens = count_tokens(tokenizer, queries)
    cutter = Cutter(words, tokenizer)
    pairs = []
    for at in range(num_pairs):
        query = at // DOCUMENTS_A_QUERY % len(queries)
        drawn = draw_length(name, rng, low + SLACK, high)
        wanted = max(MIN_DOCUMENT_TOKENS, drawn - special - query_tokens[query])
        pairs.append((queries[query], cutter.cut(rng, wanted)))
    tokens = [len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)]
    return Workload(name, pairs, tokens)


def draw_length(name: str, rng: random.Random, low: int, high: int) -> int:
    if name == "short":
        return round(rng.triangular(low, high, 85))
    if name == "mixed":
        return min(high, max(low, round(rng.lognormvariate(math.log(140), 0.8))))
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def read_texts(rng: random.Random) -> tuple[list[str], list[str]]:
    """The demo's queries, and the words of all its distinct documents in a drawn order."""
    rows = pq.read_table(DEMO, columns=["query", "candidates"]).to_pylist()
    queries = [row["query"] for row in rows]
    documents = sorted({candidate["text"] for row in rows for candidate in row["candidates"]})
    rng.shuffle(queries)
    rng.shuffle(documents)
    return queries, [word for document in documents for word in document.split()]


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


class Cutter:
    """Cuts texts of a wanted number of tokens out of a run of words, beginning at any word."""

    def __init__(self, words: Sequence[str], tokenizer: Tokenizer) -> None:
        distinct = sorted(set(words))
        # The blank before a word belongs to its first token in some tokenizers, and is dropped in the others.
        tokens = dict(zip(distinct, count_tokens(tokenizer, [f" {word}" for word in distinct]), strict=True))
        self._words = words
        self._ends = list(accumulate((tokens[word] for word in words), initial=0))

    def cut(self, rng: random.Random, wanted: int) -> str:
        """A text of at most `wanted` tokens and at most SLACK fewer."""
        while True:
            start = rng.randrange(bisect_right(self._ends, self._ends[-1] - wanted))
            stop = bisect_right(self._ends, self._ends[start] + wanted) - 1
            if self._ends[stop] - self._ends[start] >= wanted - SLACK:
                return " ".join(self._words[start:stop])
