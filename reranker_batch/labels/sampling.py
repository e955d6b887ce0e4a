"""Which of the negatives that pass become labels."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from reranker_batch.config.labels import NegativesConfig
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.labels.candidates import UnitPlaces
from reranker_batch.labels.groups import count_of, ranks_of

HashArray = npt.NDArray[np.uint64]


def sampled(places: UnitPlaces, ranks: LongArray, rules: NegativesConfig) -> BoolArray:
    """At most `rules.num` of the candidates of each query that have a rank (0 is the highest score, -1 none)."""
    is_offered = ranks >= 0
    if rules.sampling == "top":
        return is_offered & (ranks < rules.num)
    if rules.sampling == "random":
        order = ranks_of(places.query, _random_keys(places, rules.seed), is_offered)
        return is_offered & (order < rules.num)
    return is_offered & _is_on_grid(
        ranks, count_of(places.query, is_offered, places.num_queries)[places.query], rules.num
    )


def _is_on_grid(ranks: LongArray, offered: LongArray, num: int) -> BoolArray:
    """Whether a rank is one of `floor(i * (offered - 1) / (num - 1))`: first, last and evenly between."""
    if num == 1:
        return np.asarray(ranks == 0)
    last = np.maximum(offered - 1, 1)
    step = -(-ranks * (num - 1) // last)  # the first step that may lead to this rank
    return np.asarray((offered <= num) | ((step < num) & (step * last // (num - 1) == ranks)))


def _random_keys(places: UnitPlaces, seed: int) -> HashArray:
    """A number for each place of the input, whatever the units are: splitmix64 of seed, file, row and index."""
    spans, rows = places.unit.places_of(places.rows)
    files = np.array([_hash_of(span.file) for span in places.unit.spans], np.uint64)
    queries = _mixed(_mixed(files[spans] ^ _mixed(np.uint64(seed))) ^ rows.astype(np.uint64))
    return _mixed(queries[places.query] ^ places.index.astype(np.uint64))


def _hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mixed(values: HashArray | np.uint64) -> HashArray:
    state = np.asarray(values, np.uint64).reshape(-1) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: HashArray = state ^ (state >> np.uint64(31))
    return mixed
