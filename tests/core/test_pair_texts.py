"""Hashes of texts are those of their UTF-8 bytes, however Arrow holds them."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.memo import KeyArray
from reranker_batch.core.pair_texts import UnitTexts, text_keys
from reranker_batch.core.unit_rows import DEAD_LETTER_PLACES, UnitRows

TEXTS = st.lists(st.text(max_size=8) | st.sampled_from(["", "the", "naïve 🙂", "市场"]), max_size=12)


def by_hand(texts: list[str]) -> KeyArray:
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, "<u8").reshape(-1, 2)


@given(texts=TEXTS, start=st.integers(0, 3), kind=st.sampled_from([pa.string(), pa.large_string()]))
def test_a_key_is_the_hash_of_the_bytes_of_a_text(texts: list[str], start: int, kind: pa.DataType) -> None:
    keys = text_keys(pa.array(texts, kind).slice(start))
    assert keys.tolist() == by_hand(texts[start:]).tolist()


@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "a", "b", "ü"])), max_size=12), data=st.data())
def test_the_texts_of_a_unit_are_those_of_its_candidates(pairs: list[tuple[int, str]], data: st.DataObject) -> None:
    """Also where a query is null or has no candidates, and where queries or documents are equal."""
    queries = data.draw(st.lists(st.sampled_from(["", "x", "y"]), min_size=4, max_size=4))
    pairs = sorted(pairs, key=lambda pair: pair[0])
    used = {at for at, _ in pairs}
    nulled = pa.array([query if at in used else None for at, query in enumerate(queries)], pa.large_string())
    candidates = pa.table(
        {
            "query_at": pa.array([at for at, _ in pairs], pa.int64()),
            "document": pa.array([text for _, text in pairs], pa.large_string()),
        }
    )
    texts = UnitTexts.of(UnitRows(pa.table({"query": nulled}), candidates, DEAD_LETTER_PLACES.empty_table()))
    some = np.array(data.draw(st.lists(st.integers(0, max(0, len(pairs) - 1)), max_size=len(pairs))), dtype=np.int64)
    for unit, chosen in ((texts, pairs), (texts.subset(some), [pairs[at] for at in some])):
        assert [unit.queries[at].as_py() for at in unit.query_at] == [queries[at] for at, _ in chosen]
        assert [unit.documents[at].as_py() for at in unit.document_at] == [text for _, text in chosen]
        assert len(set(unit.documents.to_pylist())) == len(unit.documents)
    keys = texts.keys()
    assert np.stack([keys["q0"], keys["q1"]], axis=1).tolist() == by_hand([queries[at] for at, _ in pairs]).tolist()
    assert np.stack([keys["d0"], keys["d1"]], axis=1).tolist() == by_hand([text for _, text in pairs]).tolist()
