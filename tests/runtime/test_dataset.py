"""`rerank_table` on a Ray Dataset: a stage among others, with the scores of a table in memory."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pytest
import ray
import ray.data
from polars.testing import assert_frame_equal
from tables import nested_table, pairs_table, random_groups

from reranker_batch import Reranker, rerank_table
from reranker_batch.config import InputConfig
from reranker_batch.core.backend import Where
from reranker_batch.errors import ConfigError, InputError, RowError
from reranker_batch.memory_table import OnFailed, TableSettings
from reranker_batch.runtime.dataset import NAME, RerankingActor, _packed, _Stage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray"), pytest.mark.filterwarnings("ignore")]

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_dataset.py"
GROUPS = random_groups(40, max_candidates=5, seed=21)


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    return Reranker.open("builtin:mini", device="cpu", limits={"max_pair_tokens": 48})


def dataset_of(table: pa.Table, num_blocks: int) -> Any:
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.from_arrow([table.slice(at, -(-len(table) // num_blocks)) for at in starts(table, num_blocks)])


def starts(table: pa.Table, num_blocks: int) -> range:
    return range(0, len(table), -(-len(table) // num_blocks))


def collected(dataset: Any) -> pl.DataFrame:
    blocks = [ray.get(ref) for ref in dataset.to_arrow_refs()]
    frames = [pl.DataFrame(pl.from_arrow(block)) for block in blocks if len(block)]
    return pl.concat(frames).sort("query_id", "rank")


def in_memory(table: pa.Table, reranker: Reranker, **options: Any) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(rerank_table(table, model=reranker, **options))).sort("query_id", "rank")


def replica(reranker: Reranker, on_failed: OnFailed, layout: Literal["nested", "pairs"] = "nested") -> RerankingActor:
    """What Ray calls for each block, in this process: a dataset that fails keeps its actors for minutes."""
    config = InputConfig(path=NAME, layout=layout)
    settings = TableSettings(config, None, "pairs", return_documents=False, name=NAME)
    return RerankingActor(_Stage(settings, reranker.backend, reranker.limits, Where("cpu"), on_failed))


def test_a_dataset_of_queries_gives_a_dataset_with_the_same_rows(reranker: Reranker) -> None:
    """In a running event loop, between other stages, with the limits of the reranker that is given."""
    table = nested_table(GROUPS, lang=[f"l{at}" for at in range(len(GROUPS))])
    asked: dict[str, Any] = {"top_n": 3, "passthrough": ["lang"], "return_documents": True}

    async def pipeline() -> pl.DataFrame:
        given = dataset_of(table, 4).filter(lambda row: row["query_id"] != "q1")
        result = rerank_table(given, model=reranker, replicas=1, **asked)
        assert isinstance(result, ray.data.Dataset)
        return collected(result.filter(lambda row: row["rank"] < 3))

    expected = in_memory(table, reranker, **asked).filter((pl.col("query_id") != "q1") & (pl.col("rank") < 3))
    assert len(expected) > 20
    found = asyncio.run(pipeline()).cast(expected.schema)  # a filter gives rows of Python
    assert_frame_equal(found, expected, rel_tol=0, abs_tol=1e-5)
    assert ray.is_initialized()


def test_the_example_ranks_the_right_documents_first(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("q")]
    assert shown == ["q1 d2 1", "q2 d4 1"]


def test_pairs_of_a_query_are_ranked_together_whatever_blocks_they_lie_in(
    reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pairs_table(GROUPS)
    dealt = pa.concat_tables([table.take(list(range(start, len(table), 7))) for start in range(7)])
    context = ray.data.DataContext.get_current()
    monkeypatch.setattr(context, "target_max_block_size", 256)  # where a block may be split, a query must not be
    found = collected(rerank_table(dataset_of(dealt, 5), model=reranker, layout="pairs", replicas=1))
    by_id = pl.DataFrame(pl.from_arrow(table)).sort("query_id", "doc_id").to_arrow()
    assert_frame_equal(found, in_memory(by_id, reranker, layout="pairs"), rel_tol=0, abs_tol=1e-5)


def test_rows_without_an_id_are_refused(reranker: Reranker) -> None:
    table = nested_table(GROUPS[:3])
    for_some = table.set_column(0, "query_id", pa.array(["a", None, "c"]))
    with pytest.raises(InputError, match="the Ray dataset has rows without a query id"):
        replica(reranker, "warn")(for_some)
    with pytest.raises(InputError, match="the Ray dataset has rows without a query id"):
        rerank_table(dataset_of(table.drop_columns("query_id"), 1), model=reranker)
    with pytest.raises(ConfigError, match="query_id=None is not possible for a Ray Dataset"):
        rerank_table(dataset_of(table, 1), model=reranker, query_id=None)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"query": "question"}, InputError, "'question' is missing in the Ray dataset"),
        ({"replicas": 0}, ConfigError, "replicas=0"),
        ({"model": "builtin:other"}, Exception, "builtin:other does not come with the package"),
    ],
)
def test_what_can_be_seen_before_anything_is_computed_is_refused_then(
    reranker: Reranker, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        rerank_table(dataset_of(nested_table(GROUPS[:2]), 1), **{"model": reranker, **options})


def test_candidates_without_a_score_are_left_out_or_an_error(reranker: Reranker) -> None:
    pairs = pa.table({"query_id": ["a", "a", "b"], "query": ["x", "x", "y"], "text": ["1", None, "2"]})
    block = _packed(pairs, key="query_id", then=["doc_id", "text"])
    found = pl.DataFrame(pl.from_arrow(replica(reranker, "warn", "pairs")(block)))
    assert found.select("query_id", "doc_id").rows() == [("a", "a/0"), ("b", "b/0")]
    nested = nested_table([("a", "x", [("1", "one"), ("2", None)])])  # type: ignore[list-item]
    assert len(replica(reranker, "warn")(nested)) == 1
    with pytest.raises(RowError, match="Candidates cannot be scored. The first is at query 'a'"):
        replica(reranker, "raise")(nested)
