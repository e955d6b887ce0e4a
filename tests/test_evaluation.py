import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked_outputs import Ranked, write_output
from scipy import stats

from reranker_batch.evaluation import (
    METRICS,
    compare_metrics,
    evaluate_first_stage,
    evaluate_lists,
    evaluate_output,
    judgments_of,
    means_of,
    paired_t_test,
)
from reranker_batch.storage.input.qrels import QRELS

JUDGMENTS = {"q1": {"a": 2, "b": 0, "c": 1}, "q2": {"a": 1}, "q3": {"x": 1}}


def slow_metrics(ranked: list[str], judged: dict[str, int]) -> dict[str, float]:
    """By the definitions: linear gains, discount log2(rank + 1), recall of what is relevant at all."""
    gains = [max(0, judged.get(document, 0)) for document in ranked[:10]]
    best = sorted((max(0, value) for value in judged.values()), reverse=True)[:10]
    dcg, ideal = (sum(g / math.log2(at + 2) for at, g in enumerate(values)) for values in (gains, best))
    first = next((at for at, gain in enumerate(gains, start=1) if gain), None)
    relevant = sum(value > 0 for value in judged.values())
    return {
        "ndcg_at_10": dcg / ideal if ideal else 0.0,
        "rr_at_10": 1 / first if first else 0.0,
        "recall_at_10": sum(gain > 0 for gain in gains) / relevant if relevant else 0.0,
    }


@settings(max_examples=30)
@given(
    st.dictionaries(st.sampled_from("pqrs"), st.lists(st.sampled_from("abcdefghijklmn"), unique=True, min_size=1)),
    st.dictionaries(
        st.sampled_from("pqrs"), st.dictionaries(st.sampled_from("abcdefghijklmn"), st.integers(0, 3), min_size=1)
    ),
)
def test_metrics_are_those_of_the_definitions(run: dict[str, list[str]], judgments: dict[str, dict[str, int]]) -> None:
    """Equal logits must not let ir-measures break ties in its own way, so only the order counts."""
    tables = [pa.table({"query_id": [query], "doc_id": [documents]}, schema=LISTS) for query, documents in run.items()]
    values = evaluate_lists(tables, judgments)
    assert values.keys() == run.keys() & judgments.keys()
    for query_id, metrics in values.items():
        assert metrics == pytest.approx(slow_metrics(run[query_id], judgments[query_id]))


LISTS = pa.schema([("query_id", pa.large_string()), ("doc_id", pa.large_list(pa.large_string()))])


def test_before_and_after_are_pairs_of_the_same_queries(tmp_path: Path) -> None:
    before: list[Ranked] = [("q1", [("b", 2.0), ("a", 1.0)]), ("q2", [("a", 1.0)]), ("other", [("a", 1.0)])]
    after: list[Ranked] = [("q1", [("a", 2.0), ("b", 1.0)])]
    old = evaluate_output(write_output(tmp_path / "before", before), JUDGMENTS)
    new = evaluate_output(write_output(tmp_path / "after", after, layout="nested"), JUDGMENTS)
    change = compare_metrics(old, new)["rr_at_10"]
    assert (change.queries, change.before, change.after) == (2, 0.75, 0.5)
    assert (change.better, change.worse) == (1, 1)
    assert [lost.query_id for lost in change.largest_losses] == ["q2"]
    assert [gained.query_id for gained in change.largest_gains] == ["q1"]
    report = json.loads(json.dumps({name: metric.to_dict() for name, metric in compare_metrics(old, new).items()}))
    assert report.keys() == METRICS.keys()
    assert report["rr_at_10"]["difference"] == -0.25
    assert report["rr_at_10"]["differences"]["count"] == 2


def test_the_first_stage_is_evaluated_in_the_order_of_the_input(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", [("q1", [("b", 3.0), ("c", 2.0), ("a", 1.0)])])
    assert evaluate_first_stage(output, JUDGMENTS)["q1"]["rr_at_10"] == 1
    assert evaluate_output(output, JUDGMENTS)["q1"]["rr_at_10"] == 0.5


@pytest.mark.parametrize("in_one_table", [True, False])
def test_the_first_row_of_a_query_and_the_best_place_of_a_document_count(in_one_table: bool) -> None:
    rows = [("q2", ["b", "b", "a"]), ("q2", ["a"])]
    cuts = [rows] if in_one_table else [rows[:1], rows[1:]]
    tables = [pa.table([list(column) for column in zip(*cut, strict=True)], schema=LISTS) for cut in cuts]
    assert evaluate_lists(tables, JUDGMENTS)["q2"]["rr_at_10"] == 0.5


@given(st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), max_size=20))
def test_the_paired_t_test_is_scipys(differences: list[float]) -> None:
    values = np.array(differences)
    p_value, interval = paired_t_test(values)
    if len(values) < 2:
        assert (p_value, interval) == (None, None)
    elif np.ptp(values) == 0:
        assert p_value == (1.0 if values[0] == 0 else pytest.approx(0, abs=1e-9))
    else:
        expected = stats.ttest_1samp(values, 0)
        assert p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-12)


def test_judgments_are_grouped_by_query() -> None:
    qrels = pa.table([["q1", "q2", "q1"], ["a", "a", "b"], [1, 2, 0]], schema=QRELS)
    assert judgments_of(qrels) == {"q1": {"a": 1, "b": 0}, "q2": {"a": 2}}


def test_nothing_judged_has_no_means_and_no_comparison() -> None:
    assert evaluate_lists([], JUDGMENTS) == {}
    assert means_of({}) == dict.fromkeys(METRICS)
    assert compare_metrics({}, {}) == {}
