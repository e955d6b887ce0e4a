import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.ranking import rank_candidates

LOGITS = st.floats(-30, 30, width=32, allow_subnormal=False) | st.sampled_from([0.0, 1.0, -1.0])


@given(st.lists(st.tuples(st.integers(0, 4), LOGITS), max_size=60), st.one_of(st.none(), st.integers(1, 5)))
def test_the_best_of_each_query_stay_in_order_with_ties_by_index(
    rows: list[tuple[int, float]], top_n: int | None
) -> None:
    rows.sort(key=lambda row: row[0])
    query = np.array([row[0] for row in rows], dtype=np.int64)
    logits = np.array([row[1] for row in rows], dtype=np.float32)
    index = np.arange(len(rows), dtype=np.int32)
    ranked = rank_candidates(query, index, logits, top_n=top_n)
    expected = []
    for group in range(5):
        members = sorted(index[query == group].tolist(), key=lambda row: (-logits[row], row))
        expected += [(row, rank) for rank, row in enumerate(members, start=1) if top_n is None or rank <= top_n]
    assert list(zip(ranked.order.tolist(), ranked.rank.tolist(), strict=True)) == expected
