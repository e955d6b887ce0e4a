import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.inputs import as_tokens
from reranker_batch.core.pairs import PairTemplate, assemble_pairs, cut_pairs
from reranker_batch.core.ragged import Ragged

TEMPLATE = PairTemplate(prefix=(101,), middle=(102, 102), suffix=(103,), first_type_extra=2)
TEXTS = st.lists(st.lists(st.integers(0, 99), max_size=40), min_size=1, max_size=5)


@given(TEXTS, TEXTS, st.integers(20, 60))
def test_pairs_are_the_pieces_in_order(queries: list[list[int]], documents: list[list[int]], longest: int) -> None:
    places = [(q, d) for q in range(len(queries)) for d in range(len(documents))]
    query_at, document_at = (np.array(column, dtype=np.int64) for column in zip(*places, strict=True))
    pairs = assemble_pairs(
        TEMPLATE,
        Ragged.from_lists(queries),
        Ragged.from_lists(documents),
        query_at,
        document_at,
        max_pair_tokens=longest,
    )
    inputs = as_tokens(pairs.inputs)
    assert inputs.groups.tolist() == query_at.tolist()
    for position, (q, d) in enumerate(places):
        query = queries[q][: pairs.query_tokens[position]]
        document = documents[d][: pairs.document_tokens[position]]
        assert inputs.ids[position].tolist() == [101, *query, 102, 102, *document, 103]
        assert inputs.first_type_tokens[position] == len(query) + 2
        assert len(inputs.ids[position]) <= longest
        assert pairs.is_cut[position] == (len(query) + len(document) < len(queries[q]) + len(documents[d]))


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(16, 600))
def test_a_cut_shortens_the_document_and_caps_the_query(query: int, document: int, longest: int) -> None:
    kept_query, kept_document = (
        int(kept[0])
        for kept in cut_pairs(np.array([query]), np.array([document]), max_pair_tokens=longest, num_special_tokens=3)
    )
    if query + document + 3 <= longest:
        assert (kept_query, kept_document) == (query, document)
    else:
        assert kept_query == min(query, longest * 3 // 4)
        assert kept_document == min(document, longest - 3 - kept_query)
        assert kept_document >= min(document, 1)


def test_no_pairs_give_no_inputs() -> None:
    empty = np.empty(0, dtype=np.int64)
    pairs = assemble_pairs(TEMPLATE, Ragged.from_lists([]), Ragged.from_lists([]), empty, empty, max_pair_tokens=32)
    assert len(pairs.inputs) == len(pairs.query_tokens) == 0
