"""A unit through prepare, score and finish, without Ray and without a model, against the oracle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Answer, ByteEncoder, HashScorer, answers
from tables import Group, nested_table, pairs_table, random_groups, write

from reranker_batch.config import InputConfig
from reranker_batch.core.activation import Activation
from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.limits import RequestLimits
from reranker_batch.core.pairs import PairScores
from reranker_batch.errors import CommitError
from reranker_batch.pipeline import FinishedUnit, ResultSettings, finish_unit, prepare_unit, score_unit
from reranker_batch.storage.input.planning import plan_input

LIMITS = RequestLimits(max_documents=5, max_item_tokens=400, max_request_tokens=1000, max_pair_tokens=2000)


def run_units(
    path: Path,
    *,
    input_layout: str = "nested",
    limits: RequestLimits = LIMITS,
    scorer: HashScorer | None = None,
    encoder: ByteEncoder | None = None,
    unit_pairs: int = 50,
    passthrough: Sequence[str] = (),
    layout: str = "pairs",
    top_n: int | None = None,
    return_documents: bool = False,
) -> list[FinishedUnit]:
    """All units of an input, one after the other, as the job runs them."""
    columns = {"passthrough": list(passthrough)}
    config = InputConfig.model_validate({"path": str(path), "layout": input_layout, "columns": columns})
    settings = ResultSettings(layout, top_n, return_documents, Activation(), passthrough)  # type: ignore[arg-type]
    plan = plan_input(config, unit_pairs=unit_pairs)
    finished = []
    for unit in plan.units:
        rows = plan.source.read(unit)
        prepared = prepare_unit(unit, rows, encoder or ByteEncoder(), limits, keep_documents=return_documents)
        finished.append(finish_unit(score_unit(prepared, scorer or HashScorer()), settings))
    return finished


def table_of(units: list[FinishedUnit]) -> pa.Table:
    return pa.concat_tables(unit.part.cast(unit.schema) for unit in units)


def kept(table: pa.Table) -> list[Answer]:
    rows = table.select(["query_id", "doc_id", "index", "rank"]).to_pylist()
    return [Answer(**row, logit=logit) for row, logit in zip(rows, table["logit"].to_numpy(), strict=True)]


def expected(groups: list[Group], top_n: int | None = None) -> list[Answer]:
    return [answer for group in groups for answer in answers(*group, top_n=top_n)]


@pytest.mark.parametrize("input_layout", ["nested", "pairs"])
@pytest.mark.parametrize("top_n", [None, 1, 3])
def test_every_candidate_gets_its_own_score_and_rank(tmp_path: Path, input_layout: str, top_n: int | None) -> None:
    groups = random_groups(40)
    table = nested_table(groups) if input_layout == "nested" else pairs_table(groups)
    path = write(table, tmp_path / "in.parquet", row_group_size=16)
    found = table_of(run_units(path, input_layout=input_layout, top_n=top_n))
    assert kept(found) == expected(groups, top_n)
    np.testing.assert_array_equal(found["relevance_score"].to_numpy(), Activation().scores(found["logit"].to_numpy()))


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 9))
def test_units_of_any_size_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, seed: int, unit_pairs: int, row_group_size: int
) -> None:
    groups = random_groups(12, seed=seed)
    folder = tmp_path_factory.mktemp("in")
    path = write(nested_table(groups), folder / "in.parquet", row_group_size=row_group_size)
    assert kept(table_of(run_units(path, unit_pairs=unit_pairs))) == expected(groups)


def test_the_nested_layout_holds_the_same_results_a_row_a_query(tmp_path: Path) -> None:
    groups = random_groups(30)
    path = write(nested_table(groups), tmp_path / "in.parquet")
    flat = table_of(run_units(path, top_n=4)).to_pylist()
    nested = table_of(run_units(path, top_n=4, layout="nested")).to_pylist()
    assert [row["query_id"] for row in nested] == [group[0] for group in groups]
    assert [{"query_id": row["query_id"], **result} for row in nested for result in row["results"]] == flat
    assert {(row["code"], row["message"]) for row in nested} == {("", "")}


@pytest.mark.parametrize("input_layout", ["nested", "pairs"])
def test_a_row_of_the_nested_layout_tells_where_its_query_begins(tmp_path: Path, input_layout: str) -> None:
    """With units of several files and of parts of a file; a query of the pairs layout has several rows."""
    groups = [group for group in random_groups(40) if group[2]]
    files = [groups[:2], groups[2:3], groups[3:]]
    expected = []
    for at, of_file in enumerate(files):
        table = nested_table(of_file) if input_layout == "nested" else pairs_table(of_file)
        write(table, tmp_path / "in" / f"{at}.parquet", row_group_size=3)
        ids = table["query_id"].to_pylist()
        expected += [(f"{at}.parquet", ids.index(query_id), query_id) for query_id, _, _ in of_file]
    units = run_units(tmp_path / "in", input_layout=input_layout, layout="nested", unit_pairs=40)
    assert len(units) > 2
    found = table_of(units).select(["file", "row", "query_id"]).to_pylist()
    assert [tuple(row.values()) for row in found] == expected


@pytest.mark.parametrize(
    ("formula", "requests", "total"),
    [("query_once", 2, 2 * 10 + 7 * 20), ("query_per_document", 2, 7 * 10 + 7 * 20)],
)
def test_requests_and_tokens_are_those_of_the_formula(tmp_path: Path, formula: Any, requests: int, total: int) -> None:
    """Seven documents of 20 tokens and a query of 10; at most five documents fit a request."""
    groups: list[Group] = [("q", "x" * 10, [(f"d{at}", chr(97 + at) * 20) for at in range(7)])]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    limits = RequestLimits(5, 100, 1000, formula, 500)
    row = table_of(run_units(path, layout="nested", limits=limits)).to_pylist()[0]
    assert (row["requests"], row["total_tokens"]) == (requests, total)
    assert row["request_ids"] == ["00000-0000000000-0", "00000-0000000000-1"]


def test_request_ids_do_not_depend_on_how_units_are_cut(tmp_path: Path) -> None:
    path = write(nested_table(random_groups(20)), tmp_path / "in.parquet", row_group_size=3)
    few = table_of(run_units(path, layout="nested", unit_pairs=10_000))
    many = table_of(run_units(path, layout="nested", unit_pairs=5))
    assert few.equals(many)


def test_cuts_are_counted_and_tokens_are_what_the_model_read(tmp_path: Path) -> None:
    """Items are cut to 100 bytes; of the pair's 120 tokens, 3 are special, so a full query of 100 leaves 30 - 3."""
    groups: list[Group] = [
        ("short", "q" * 10, [("fits", "d" * 50), ("item_cut", "d" * 101)]),
        ("long", "q" * 150, [("pair_cut", "d" * 100)]),
    ]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    limits = RequestLimits(5, 100, 1000, "query_once", 120)
    flat = {row["doc_id"]: row for row in table_of(run_units(path, limits=limits)).to_pylist()}
    seen = {name: (row["query_tokens"], row["document_tokens"], row["truncated"]) for name, row in flat.items()}
    assert seen == {"fits": (10, 50, False), "item_cut": (10, 100, True), "pair_cut": (90, 27, True)}
    totals = table_of(run_units(path, limits=limits, layout="nested"))["total_tokens"].to_pylist()
    assert totals == [10 + 50 + 100, 100 + 100]


def test_each_distinct_text_of_a_unit_is_tokenized_once(tmp_path: Path) -> None:
    groups: list[Group] = [
        (f"q{at}", f"query {at % 2}", [("a", "same"), ("b", "same"), ("c", "other")]) for at in range(6)
    ]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    encoder = ByteEncoder()
    run_units(path, encoder=encoder, unit_pairs=1000)
    assert sorted(encoder.texts_seen) == ["other", "query 0", "query 1", "same"]


class UnevenScorer(HashScorer):
    """As in a real model, equal inputs differ in the last bits by where they stand in a micro-batch."""

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        noise = np.linspace(0, 1e-6, len(inputs), dtype=np.float32)
        return PairScores(super().score(inputs).logits + noise)


def test_equal_pairs_tie_in_spite_of_rounding(tmp_path: Path) -> None:
    """Equal texts, and texts that a cut has made equal."""
    texts = ["same" + "x" * 96, "same", "same" + "x" * 96, "same" + "x" * 96 + "tail", "same"]
    groups: list[Group] = [("q", "query", [(f"d{at}", text) for at, text in enumerate(texts)])]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    found = table_of(run_units(path, scorer=UnevenScorer(), limits=RequestLimits(5, 100, 1000, "query_once", 500)))
    order = found["index"].to_pylist()
    assert [at for at in order if at in (0, 2, 3)] == [0, 2, 3]
    assert [at for at in order if at in (1, 4)] == [1, 4]
    assert len(set(found["logit"].to_pylist())) == 2


def test_ties_rank_by_place(tmp_path: Path) -> None:
    groups: list[Group] = [("q", "query", [(f"d{at}", "same text") for at in range(9)])]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    found = table_of(run_units(path, top_n=5))
    assert found["index"].to_pylist() == [0, 1, 2, 3, 4]


def test_passthrough_columns_and_documents_come_out_as_they_went_in(tmp_path: Path) -> None:
    groups = random_groups(10, max_candidates=4)
    table = nested_table(groups, topic=[f"t{at}" for at in range(10)])
    scores = [
        [{**candidate, "first": at / 8} for at, candidate in enumerate(row)] for row in table["candidates"].to_pylist()
    ]
    table = table.set_column(2, "candidates", pa.array(scores))
    path = write(table, tmp_path / "in.parquet")
    flat = table_of(run_units(path, passthrough=["first", "topic"], return_documents=True))
    assert flat.schema.field("first").type == pa.float64()
    texts = {doc_id: text for group in groups for doc_id, text in group[2]}
    for row in flat.to_pylist():
        assert row["document"] == texts[row["doc_id"]]
        assert row["first"] == row["index"] / 8
        assert row["topic"] == "t" + row["query_id"][1:]
    nested = table_of(run_units(path, passthrough=["first", "topic"], layout="nested"))
    assert nested["topic"].to_pylist() == table["topic"].to_pylist()
    assert [field.name for field in nested.schema.field("results").type.value_type][-1] == "first"


@pytest.mark.parametrize("input_layout", ["nested", "pairs"])
def test_the_query_itself_can_be_carried(tmp_path: Path, input_layout: str) -> None:
    groups = random_groups(8)
    table = nested_table(groups) if input_layout == "nested" else pairs_table(groups)
    path = write(table, tmp_path / "in.parquet")
    found = table_of(run_units(path, input_layout=input_layout, passthrough=["query"])).to_pylist()
    texts = {query_id: query for query_id, query, _ in groups}
    assert [row["query"] for row in found] == [texts[row["query_id"]] for row in found]


def test_queries_without_candidates_keep_their_place(tmp_path: Path) -> None:
    table = pa.table(
        {
            "query_id": ["none", "empty", "one"],
            "query": ["a", "b", "c"],
            "candidates": pa.array([None, [], ["text"]], pa.list_(pa.string())),
        }
    )
    path = write(table, tmp_path / "in.parquet")
    nested = table_of(run_units(path, layout="nested")).to_pylist()
    assert [(row["query_id"], len(row["results"]), row["requests"], row["code"]) for row in nested] == [
        ("none", 0, 0, ""),
        ("empty", 0, 0, ""),
        ("one", 1, 1, ""),
    ]
    assert len(table_of(run_units(path))) == 1


def test_nulls_become_dead_letters_and_a_null_query_keeps_its_row(tmp_path: Path) -> None:
    table = pa.table(
        {
            "query_id": ["whole", "partly", "null"],
            "query": ["a", "b", None],
            "candidates": pa.array([[None], ["text", None], ["x", "y"]], pa.list_(pa.string())),
        }
    )
    path = write(table, tmp_path / "in.parquet")
    (unit,) = run_units(path, layout="nested")
    assert unit.counts.dead_letters == {"null_document": 2, "null_query": 2}
    assert (unit.counts.candidates, unit.counts.scored, unit.counts.failed_queries) == (5, 1, 2)
    assert [(row["query_id"], row["code"]) for row in table_of([unit]).to_pylist()] == [
        ("whole", "null_document"),
        ("partly", ""),
        ("null", "null_query"),
    ]


class NanScorer(HashScorer):
    """Gives what an overflow in half precision gives, for every third pair."""

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        logits = super().score(inputs).logits
        logits[::3] = np.nan
        return PairScores(logits)


class ShortScorer(HashScorer):
    """Loses a pair."""

    def score(self, inputs: ModelInputs, **options: Any) -> PairScores:
        return PairScores(super().score(inputs).logits[:-1])


def test_a_score_that_is_no_number_never_reaches_a_ranking(tmp_path: Path) -> None:
    groups: list[Group] = [("q", "query", [(f"d{at}", f"text {at}") for at in range(7)])]
    path = write(nested_table(groups), tmp_path / "in.parquet")
    (unit,) = run_units(path, scorer=NanScorer())
    assert unit.dead_letters["index"].to_pylist() == [0, 3, 6]
    assert unit.counts.dead_letters == {"non_finite_score": 3}
    assert sorted(unit.part["index"].to_pylist()) == [1, 2, 4, 5]
    assert sorted(unit.part["rank"].to_pylist()) == [1, 2, 3, 4]


def test_a_scorer_that_loses_a_pair_stops_the_unit(tmp_path: Path) -> None:
    path = write(nested_table(random_groups(3)), tmp_path / "in.parquet")
    with pytest.raises(CommitError, match="The scorer gave float32 of shape"):
        run_units(path, scorer=ShortScorer())
