import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reranker_batch.core.activation import Activation


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), max_size=50),
    st.floats(-6, 6),
)
def test_relevance_scores_are_within_0_and_1_and_never_out_of_order(logits: list[float], shift: float) -> None:
    ascending = np.sort(np.array(logits, dtype=np.float32))
    scores = Activation(shift=shift).scores(ascending)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores) >= 0).all()


def test_relevance_scores_match_published_values() -> None:
    """Logits and probabilities that BAAI publishes for bge-reranker-v2-m3."""
    logits = np.array([-5.65234375, -8.1875, 5.26171875], dtype=np.float32)
    expected = [0.003497010252573502, 0.000278031, 0.994840377]
    np.testing.assert_allclose(Activation().scores(logits), expected, rtol=2e-6)


def test_the_formula_says_what_is_computed() -> None:
    assert str(Activation()) == "sigmoid(logit)"
    assert str(Activation(shift=4.5)) == "sigmoid(logit - 4.5)"
    assert str(Activation(scale=0.2)) == "sigmoid(0.2 * logit)"
    assert str(Activation(shift=1, scale=2)) == "sigmoid(2 * (logit - 1))"
