"""Which candidates become positives and negatives, and why the others do not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import Group, nested_table, pairs_table, write
from teachers import Bench, ChosenScorer, chosen

from reranker_batch import verify
from reranker_batch.config.labels import NegativesConfig
from reranker_batch.core.ragged import LongArray
from reranker_batch.core.units import FileIdentity, Span, WorkUnit
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.labels.candidates import UnitPlaces
from reranker_batch.labels.sampling import sampled
from reranker_batch.storage.input.reading import PREPARED_KEY

PLAIN = {"scale": "none"}
Decisions = dict[str, str]


def decided(bench: Bench) -> Decisions:
    """What became of each candidate, by its id."""
    kept = {item["doc_id"]: item["decision"] for row in bench.rows() for item in [*row["positives"], *row["negatives"]]}
    return kept | {row["doc_id"]: row["reason"] for row in bench.dropped()}


def qrels(folder: Path, *lines: tuple[str, str, int]) -> dict[str, Any]:
    path = folder / "qrels.txt"
    path.write_text("".join(f"{query} 0 {document} {relevance}\n" for query, document, relevance in lines))
    return {"from": "qrels", "qrels": str(path)}


def bench_of(folder: Path, groups: Sequence[Group], num_teachers: int = 1) -> tuple[Bench, list[str]]:
    bench = Bench(folder)
    bench.write_input(groups)
    names = ["one", "two", "three"][:num_teachers]
    for at, name in enumerate(names):
        bench.teach(name, ChosenScorer(at))
    return bench, names


def one_query(folder: Path, *logits: float | Sequence[float], **labels: Any) -> Decisions:
    """Decisions about a query whose first candidate `c0` is judged relevant."""
    group = chosen("q", *((f"c{at}", value) for at, value in enumerate(logits)))
    num_teachers = len(logits[0]) if isinstance(logits[0], Sequence) else 1
    bench, names = bench_of(folder, [group], num_teachers)
    report = bench.label(names, **{**PLAIN, "positives": qrels(folder, ("q", "c0", 1)), **labels})
    assert sum(report.dropped.values()) + report.positives + report.negatives == len(logits)
    return decided(bench)


@pytest.mark.parametrize(
    ("positive", "others", "close"),
    [
        (10.0, [9.6, 9.5, 9.4, 10.1], [True, False, False, True]),
        (-2.0, [-1.9, -2.05, -2.1, -2.2], [True, True, False, False]),
        (0.0, [0.0, 0.1, -0.1], [False, True, False]),
    ],
)
def test_the_relative_margin_takes_a_share_of_the_magnitude(
    tmp_path: Path, positive: float, others: list[float], close: list[bool]
) -> None:
    """A share of the value itself would let negatives above a positive with a negative logit pass."""
    found = one_query(tmp_path, positive, *others)
    assert [found[f"c{at}"] == "too_close" for at in range(1, len(others) + 1)] == close


def test_the_margin_is_taken_from_the_lowest_positive(tmp_path: Path) -> None:
    groups = [chosen("q", ("high", 9.0), ("low", 4.0), ("above", 3.9), ("below", 3.7))]
    bench, names = bench_of(tmp_path, groups)
    bench.label(names, **PLAIN, positives=qrels(tmp_path, ("q", "high", 2), ("q", "low", 1)))
    assert decided(bench) == {"high": "positive", "low": "positive", "above": "too_close", "below": "negative"}
    margins = {item["doc_id"]: item["margin"] for key in ("positives", "negatives") for item in bench.rows()[0][key]}
    assert margins == {"high": -5.0, "low": 0.0, "below": pytest.approx(0.3)}


@pytest.mark.parametrize(
    ("negatives", "fate"),
    [
        ({"absolute_margin": 2, "relative_margin": None}, ["too_close", "negative", "negative", "negative"]),
        ({"max_score": 3}, ["above_max", "above_max", "negative", "negative"]),
        ({"min_score": 2}, ["negative", "negative", "negative", "below_min"]),
        ({"rank": [1, 3]}, ["outside_rank", "negative", "negative", "outside_rank"]),
        ({"rank": [2, None]}, ["outside_rank", "outside_rank", "negative", "negative"]),
        ({"num": 2}, ["negative", "negative", "not_sampled", "not_sampled"]),
        ({"num": 2, "sampling": "spread"}, ["negative", "not_sampled", "not_sampled", "negative"]),
        ({"num": 7, "min_num": 5}, ["too_few_negatives"] * 4),
    ],
)
def test_each_limit_drops_for_its_reason(tmp_path: Path, negatives: dict[str, Any], fate: list[str]) -> None:
    found = one_query(tmp_path, 8.0, 6.5, 6.0, 2.0, 1.0, negatives=negatives)
    assert [found[f"c{at}"] for at in range(1, 5)] == fate


def test_queries_without_positives_or_with_too_few_negatives_are_dropped_whole(tmp_path: Path) -> None:
    groups = [
        chosen("none", ("a", 1.0), ("b", 2.0)),
        chosen("alone", ("c", 3.0)),
        chosen("good", ("d", 5.0), ("e", 1.0)),
        ("empty", "no candidates", []),
    ]
    bench, names = bench_of(tmp_path, groups)
    positives = qrels(tmp_path, ("alone", "c", 1), ("good", "d", 1), ("good", "e", 0))
    report = bench.label(names, positives=positives)
    assert decided(bench) == {
        "a": "no_positive",
        "b": "no_positive",
        "c": "too_few_negatives",
        "d": "positive",
        "e": "negative",
    }
    assert (report.queries, report.labelled_queries, report.candidates) == (4, 1, 5)
    assert [item["qrel"] for item in bench.rows()[0]["negatives"]] == [0]


def test_single_candidates_can_be_kept_for_scores_alone(tmp_path: Path) -> None:
    bench, names = bench_of(tmp_path, [chosen("q", ("a", 3.0))])
    bench.label(names, negatives={"min_num": 0})
    (row,) = bench.rows()
    assert [item["doc_id"] for item in row["positives"]] == ["a"]
    assert row["negatives"] == []


def test_constant_lists_and_ties_give_finite_scores(tmp_path: Path) -> None:
    """The range of constant logits is 0, and a tie goes to the lower index."""
    groups = [chosen(f"q{at}", *((f"{at}{name}", 2.0) for name in "abc")) for at in range(3)]
    bench, names = bench_of(tmp_path, groups)
    report = bench.label(names, negatives={"relative_margin": 0})
    assert report.scales == {"one": {"offset": 2.0, "divisor": 1.0}}
    assert [row["positives"][0]["index"] for row in bench.rows()] == [0, 0, 0]
    values = [item[key] for row in bench.rows() for item in row["negatives"] for key in ("score", "margin")]
    assert len(values) == 12
    assert all(map(math.isfinite, values))


@pytest.mark.parametrize("scale", ["none", "robust", "calibrated"])
def test_logits_at_the_ends_of_float32_give_finite_scores_and_margins(tmp_path: Path, scale: str) -> None:
    """A margin of infinity made a part that no command could read."""
    group = chosen("q", ("a", (3e38, 3e38)), ("b", (-3e38, -3e38)), ("c", (0.0, 1e-3)), ("d", (1e-3, 2e-3)))
    bench, names = bench_of(tmp_path, [group], 2)
    positives = qrels(tmp_path, ("q", "a", 1))
    bench.label(names, scale=scale, positives=positives, agreement={"max_disagreement": 1e38})
    (row,) = bench.rows()
    values = [item[key] for part in ("positives", "negatives") for item in row[part] for key in ("score", "margin")]
    assert len(values) == 8
    assert all(map(math.isfinite, values))
    assert verify(str(tmp_path / "labels")).problems == []


def test_top1_takes_the_highest_score_if_it_is_high_enough(tmp_path: Path) -> None:
    groups = [chosen("q", ("a", 1.0), ("b", 3.0)), chosen("r", ("c", 0.5), ("d", 0.4))]
    bench, names = bench_of(tmp_path, groups)
    bench.label(names, **PLAIN, positives={"from": "top1", "min_score": 1})
    assert decided(bench) == {"a": "negative", "b": "positive", "c": "below_min", "d": "no_positive"}


def test_positives_have_a_least_relevance(tmp_path: Path) -> None:
    bench, names = bench_of(tmp_path, [chosen("q", ("a", 9.0), ("b", 3.0), ("c", 1.0))])
    judged = qrels(tmp_path, ("q", "a", 2), ("q", "b", 1), ("q", "c", 0))
    bench.label(names, positives={**judged, "min_relevance": 2})
    assert decided(bench) == {"a": "positive", "b": "negative", "c": "negative"}
    assert [item["qrel"] for item in bench.rows()[0]["negatives"]] == [1, 0]


def test_a_text_that_is_there_twice_is_one_label(tmp_path: Path) -> None:
    texts = [("p", "good|9"), ("same", "good|9"), ("n", "bad|1"), ("again", "bad|1")]
    bench, names = bench_of(tmp_path, [("q", "query", texts)])
    bench.label(names, positives=qrels(tmp_path, ("q", "p", 1)))
    assert decided(bench) == {"p": "positive", "same": "same_text", "n": "negative", "again": "repeated"}


def test_repeated_ids_are_judged_at_each_place(tmp_path: Path) -> None:
    bench, names = bench_of(tmp_path, [("q", "query", [("p", "good|9"), ("p", "better|8"), ("n", "bad|1")])])
    bench.label(names, positives=qrels(tmp_path, ("q", "p", 1)))
    assert [item["index"] for item in bench.rows()[0]["positives"]] == [0, 1]


@pytest.mark.parametrize(
    ("labels", "fates"),
    [
        ({}, ["too_close", "too_close", "too_close", "negative"]),
        ({"agreement": {"min_teachers": 2}}, ["too_close", "too_close", "negative", "negative"]),
        ({"agreement": {"min_teachers": 1}}, ["too_close", "negative", "negative", "negative"]),
        ({"false_negatives": "relabel"}, ["relabelled", "relabelled", "too_close", "negative"]),
        ({"false_negatives": "keep"}, ["kept_false_negative"] * 3 + ["negative"]),
        (
            {"agreement": {"min_teachers": 1, "max_disagreement": 3}},
            ["too_close", "disagreement", "disagreement", "negative"],
        ),
    ],
)
def test_teachers_vote_about_false_negatives(tmp_path: Path, labels: dict[str, Any], fates: list[str]) -> None:
    """Of three teachers all, two, one and none put a candidate above the positive."""
    votes = [(9.0, 8.0, 7.0), (9.0, 8.0, 1.0), (9.0, 1.0, 1.0), (1.0, 1.0, 1.0)]
    found = one_query(tmp_path, (5.0, 5.0, 5.0), *votes, **labels)
    assert [found[f"c{at}"] for at in range(1, 5)] == fates


def test_a_relabelled_candidate_does_not_move_the_margin_and_says_what_it_is(tmp_path: Path) -> None:
    group = chosen("q", ("p", (5.0, 5.0)), ("found", (9.0, 9.0)), ("n", (4.7, 4.7)))
    bench, names = bench_of(tmp_path, [group], 2)
    report = bench.label(names, false_negatives="relabel", positives=qrels(tmp_path, ("q", "p", 1)))
    (row,) = bench.rows()
    assert [(item["doc_id"], item["decision"]) for item in row["positives"]] == [
        ("found", "relabelled"),
        ("p", "positive"),
    ]
    assert [item["doc_id"] for item in row["negatives"]] == ["n"]
    assert report.relabelled == 1


LOGITS = [
    [(4.0, 10.0, 1.0), (2.0, 6.0, 0.5), (0.0, 8.0, -0.5), (-2.0, 2.0, 0.0)],
    [(5.0, 9.0, 2.0), (1.0, 4.0, 0.0), (3.0, 1.0, -1.0), (-4.0, 0.0, -2.0)],
    [(2.5, 7.5, 0.25), (0.5, 5.5, 1.25), (-0.5, 3.5, -0.25), (-1.5, 1.5, -1.25)],
    [(6.0, 12.0, 3.0), (-6.0, -2.0, -3.0), (1.5, 2.5, 0.75), (0.25, 0.5, 0.125)],
    [(3.5, 8.5, 1.5), (2.25, 6.25, 0.5), (-3.0, -1.0, -1.5), (-5.0, -3.0, -2.5)],
]
"""Of three teachers for four candidates of five queries."""
WEIGHTS = (3.0, 1.0, 2.0)
# By hand: (3 a + b + 2 c) / 6, and the lowest of a, b and c.
MEANS = [4.0, 2.1666667, 1.1666667, -0.6666667, 4.6666667, 1.1666667, 1.3333333, -2.6666667]
MEANS += [2.5833333, 1.5833333, 0.25, -0.9166667, 6.0, -4.3333333, 1.4166667, 0.25]
MEANS += [3.6666667, 2.3333333, -2.1666667, -3.8333333]
LOWEST = [1.0, 0.5, -0.5, -2.0, 2.0, 0.0, -1.0, -4.0, 0.25, 0.5, -0.5, -1.5, 3.0, -6.0, 0.75, 0.125]
LOWEST += [1.5, 0.5, -3.0, -5.0]


@pytest.mark.parametrize(("combine", "expected"), [("mean", MEANS), ("min", LOWEST), ("none", None)])
def test_three_teachers_with_weights_give_the_scores_computed_by_hand(
    tmp_path: Path, combine: str, expected: list[float] | None
) -> None:
    groups = [
        chosen(f"q{at}", *((f"{at}-{place}", logits) for place, logits in enumerate(of_query)))
        for at, of_query in enumerate(LOGITS)
    ]
    bench, names = bench_of(tmp_path, groups, 3)
    teachers = [{"name": name, "weight": weight} for name, weight in zip(names, WEIGHTS, strict=True)]
    bench.label(teachers, **PLAIN, combine=combine, false_negatives="keep")
    items = {item["doc_id"]: item for row in bench.rows() for key in ("positives", "negatives") for item in row[key]}
    firsts = [logits[0] for of_query in LOGITS for logits in of_query]
    scores = [items[f"{at}-{place}"]["score"] for at in range(5) for place in range(4)]
    assert scores == pytest.approx(expected or firsts, abs=1e-6)
    logits = [[*items[f"{at}-{place}"]["logits"].values()] for at in range(5) for place in range(4)]
    assert logits == [list(of_pair) for of_query in LOGITS for of_pair in of_query]


def test_a_robust_scale_is_the_median_and_the_interquartile_range_of_the_run(tmp_path: Path) -> None:
    logits = np.random.default_rng(3).normal(5, 3, 101).astype(np.float32).round(3)
    groups = [chosen("q", *((str(at), float(value)) for at, value in enumerate(logits)))]
    bench, names = bench_of(tmp_path, groups)
    scale = bench.label(names).scales["one"]
    first, median, third = np.sort(logits)[[25, 50, 75]].astype(float)
    assert scale == {"offset": pytest.approx(median), "divisor": pytest.approx(third - first)}


def test_a_calibrated_score_is_a_log_odds(tmp_path: Path) -> None:
    """Relevance is drawn with the odds exp(2 x - 6): the fit finds slope and offset again."""
    chance = np.random.default_rng(5)
    logits = chance.normal(3, 2, 4000).astype(np.float32).round(3)
    relevant = chance.random(4000) < 1 / (1 + np.exp(-(2 * logits - 6)))
    ids = [f"{at}-{'r' if is_relevant else 'n'}" for at, is_relevant in enumerate(relevant)]
    groups = [
        chosen(f"q{start}", *zip(ids[start : start + 40], map(float, logits[start : start + 40]), strict=True))
        for start in range(0, 4000, 40)
    ]
    bench, names = bench_of(tmp_path, groups)
    judged = [(f"q{at // 40 * 40}", name, 1) for at, name in enumerate(ids) if name.endswith("r")]
    scale = bench.label(names, scale="calibrated", positives=qrels(tmp_path, *judged)).scales["one"]
    assert scale["offset"] == pytest.approx(3, abs=0.1)
    assert 1 / scale["divisor"] == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("kind", [pa.int8(), pa.bool_(), pa.float64(), pa.string()])
@pytest.mark.parametrize("layout", ["pairs", "nested"])
def test_a_column_says_what_is_relevant(tmp_path: Path, layout: str, kind: pa.DataType) -> None:
    bench, names = column_bench(tmp_path, layout, pa.array([1, 0, None], pa.int64()).cast(kind))
    bench.label(names, positives={"from": "column", "column": "grade"})
    assert decided(bench) == {"a": "positive", "b": "negative", "c": "negative"}
    assert [(item["doc_id"], item["qrel"]) for item in bench.rows()[0]["negatives"]] == [("b", 0), ("c", None)]


def column_bench(folder: Path, layout: str, grades: pa.Array) -> tuple[Bench, list[str]]:
    bench = Bench(folder, layout=layout)
    table = pairs_table([chosen("q", ("a", 5.0), ("b", 1.0), ("c", 0.0))]).append_column("grade", grades)
    if layout == "nested":
        structs = pa.StructArray.from_arrays(
            [table[name].chunk(0) for name in ("doc_id", "text", "grade")], ["doc_id", "text", "grade"]
        )
        lists = pa.ListArray.from_arrays(pa.array([0, 3], pa.int32()), structs)
        table = pa.table({"query_id": ["q"], "query": ["query q"], "candidates": lists})
    write(table, folder / "in" / "0.parquet")
    bench.teach("one", ChosenScorer(0))
    return bench, ["one"]


@pytest.mark.parametrize(
    ("column", "message"),
    [("gone", "Column 'gone' is missing .*Set labels.positives.column"), ("grade", "a value that is no relevance")],
)
def test_a_column_that_says_nothing_about_relevance_is_refused(tmp_path: Path, column: str, message: str) -> None:
    bench, names = column_bench(tmp_path, "pairs", pa.array(["good", "bad", "bad"]))
    with pytest.raises(InputError, match=message):
        bench.label(names, positives={"from": "column", "column": column})


def test_a_column_that_a_prepared_input_lacks_is_told_with_what_to_do(tmp_path: Path) -> None:
    table = nested_table([chosen("q", ("a", 5.0), ("b", 1.0))]).replace_schema_metadata({PREPARED_KEY: b"rows"})
    write(table, tmp_path / "in" / "0.parquet")
    bench = Bench(tmp_path)
    bench.teach("one", ChosenScorer(0))
    with pytest.raises(InputError, match="name the column in input.columns.passthrough there"):
        bench.label(["one"], positives={"from": "column", "column": "grade"})


def test_a_column_of_the_queries_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write_input([chosen("q", ("a", 5.0), ("b", 1.0))], grade=[1])
    bench.teach("one", ChosenScorer(0))
    with pytest.raises(InputError, match="grade is a column of the queries"):
        bench.label(["one"], positives={"from": "column", "column": "grade"})


def test_lists_beside_the_candidates_say_what_is_relevant(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    groups = [
        chosen("q", ("a", 5.0), ("b", 1.0)),
        chosen("none"),
        chosen("unjudged", ("c", 1.0)),
        chosen("p", ("d", 0)),
    ]
    bench.write_input(groups, grades=[[0, 2], [], None, [None]])
    bench.teach("one", ChosenScorer(0))
    bench.label(
        ["one"], positives={"from": "column", "column": "grades"}, negatives={"min_num": 0}, false_negatives="keep"
    )
    assert decided(bench) == {
        "a": "kept_false_negative",
        "b": "positive",
        "c": "no_positive",
        "d": "no_positive",
    }


def test_lists_that_do_not_fit_the_candidates_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.write_input([chosen("q", ("a", 5.0), ("b", 1.0))], grades=[[1]])
    bench.teach("one", ChosenScorer(0))
    with pytest.raises(InputError, match="grades of query 'q' has 1 values for 2 candidates"):
        bench.label(["one"], positives={"from": "column", "column": "grades"})


def unit_of(lengths: Sequence[int], row_start: int = 0) -> UnitPlaces:
    span = Span(0, "a.parquet", row_start, row_start + len(lengths), FileIdentity(0, None, ""))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.arange(len(lengths), dtype=np.int64)
    unit, slots, none = WorkUnit("00000-0000000000", (span,), 0), np.arange(offsets[-1], dtype=np.int64), pa.nulls(0)
    return UnitPlaces(unit, rows, offsets, slots, none, none)


def ranks_from(places: UnitPlaces, is_offered: Iterator[bool]) -> LongArray:
    """Ranks in the order of the index of those that are offered."""
    next_rank: Counter[int] = Counter()
    ranks = []
    for query, offered in zip(places.query.tolist(), is_offered, strict=False):
        ranks.append(next_rank[query] if offered else -1)
        next_rank[query] += offered
    return np.array(ranks, np.int64)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.data(),
    st.integers(1, 9),
    st.sampled_from(["top", "random", "spread"]),
)
def test_a_sample_has_as_many_as_it_may_and_depends_on_no_other_query(
    lengths: list[int], data: st.DataObject, num: int, sampling: str
) -> None:
    places = unit_of(lengths)
    ranks = ranks_from(places, iter(data.draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places)))))
    rules = NegativesConfig.model_validate({"num": num, "sampling": sampling, "seed": 7, "min_num": 0})
    found = sampled(places, ranks, rules)
    for query, length in enumerate(lengths):
        own = slice(places.offsets[query], places.offsets[query + 1])
        offered = int((ranks[own] >= 0).sum())
        assert int(found[own].sum()) == min(num, offered)
        assert not found[own][ranks[own] < 0].any()
        alone = sampled(unit_of([length], row_start=query), ranks[own], rules)
        assert alone.tolist() == found[own].tolist()
        if sampling == "spread" and 1 < num < offered:
            grid = [step * (offered - 1) // (num - 1) for step in range(num)]
            assert sorted(ranks[own][found[own]].tolist()) == grid


def test_another_seed_takes_others(tmp_path: Path) -> None:
    places = unit_of([50])
    samples = [
        sampled(places, np.arange(50), NegativesConfig(sampling="random", seed=seed, num=5)) for seed in (1, 1, 2)
    ]
    assert samples[0].tolist() == samples[1].tolist() != samples[2].tolist()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"positives": {"from": "qrels"}}, "from: qrels needs the key qrels"),
        ({"positives": {"from": "top1", "column": "x"}}, "has no use for the key column"),
        ({"negatives": {"rank": [3, 3]}}, r"\[0, 30\]"),
        ({"negatives": {"num": 1, "min_num": 2}}, "min_num=2 is above num=1"),
        ({"agreement": {"min_teachers": 2}}, "min_teachers=2 is more than the 1 teachers"),
        ({"false_negatives": "relabel"}, "relabel needs two teachers"),
        ({"scale": "calibrated"}, "calibrated needs judgments"),
        ({"teachers": [{"name": "a", "output": "x"}, {"name": "a", "output": "y"}]}, "two teachers have one name"),
        ({"teachers": [{"name": "a b", "output": "x"}]}, r"labels.teachers.0.name"),
        ({"teachers": [{"name": "a", "output": "x", "weigth": 2}]}, "Did you mean weight"),
    ],
)
def test_rules_that_contradict_each_other_are_refused(tmp_path: Path, labels: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Bench(tmp_path).config(["a"], **labels)
