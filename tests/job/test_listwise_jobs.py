"""A job of a model that reads whole requests: what is recorded, resumed, refused and told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from engine import LIMITS, SmallJob, run_in_a_process
from listwise import ListHashScorer, list_logits, requests_of, texts_of
from tables import Group, nested_table, write

from reranker_batch.core.inputs import ModelInputs
from reranker_batch.core.pairs import PairScores
from reranker_batch.core.request_inputs import RequestInputs
from reranker_batch.errors import ConfigError, FingerprintError
from reranker_batch.storage.output import crash_points
from reranker_batch.storage.output.redriving import redrive_output
from reranker_batch.storage.output.verifying import verify_output

LISTWISE = replace(LIMITS, max_documents=4, is_listwise=True)
QUERIES = [(f"q{at}", f"query {at}", [f"document {at} {place}" for place in range(at)]) for at in range(9)]


def job_in(folder: Path, *, refused: tuple[int, int] | None = None, **more: Any) -> SmallJob:
    """`refused` are a query and the place of its candidate without a text."""
    groups: list[Group] = [
        (query_id, query, [(f"{query_id}-{place}", text) for place, text in enumerate(documents)])
        for query_id, query, documents in QUERIES
    ]
    table = nested_table(groups)
    if refused is not None:
        rows = table.to_pylist()
        rows[refused[0]]["candidates"][refused[1]]["text"] = None
        table = type(table).from_pylist(rows, schema=table.schema)
    path = write(table, folder / "in.parquet")
    return SmallJob(str(path), str(folder / "out"), **{"limits": LISTWISE, "top_n": None, **more})


def logits_in(folder: Path) -> dict[str, float]:
    rows = pq.read_table(folder / "out" / "scores").select(["doc_id", "logit"]).to_pylist()
    return {row["doc_id"]: row["logit"] for row in rows}


def expected(limits: Any = LISTWISE, *, without: str = "") -> dict[str, float]:
    logits: dict[str, float] = {}
    for query_id, query, documents in QUERIES:
        named = [(f"{query_id}-{place}", text) for place, text in enumerate(documents)]
        left = [(doc_id, text) for doc_id, text in named if doc_id != without]
        requests = requests_of(query, [text for _, text in left], limits)
        of_query = [float(logit) for request in requests for logit in list_logits(query, request)]
        logits |= dict(zip([doc_id for doc_id, _ in left], of_query, strict=True))
    return logits


def test_a_job_scores_requests_and_is_verified(tmp_path: Path) -> None:
    report = job_in(tmp_path).run(ListHashScorer())
    assert report.exit_code == 0
    assert logits_in(tmp_path) == expected()
    assert verify_output(str(tmp_path / "out")).is_sound
    assert report.totals.requests == sum(-(-len(documents) // 4) for _, _, documents in QUERIES)
    assert not report.warnings


def test_limits_of_requests_decide_scores_and_so_the_job(tmp_path: Path) -> None:
    job_in(tmp_path).run(ListHashScorer())
    settings = json.loads((tmp_path / "out" / "run" / "manifest.json").read_text())["settings"]
    assert settings["scoring"]["requests"]["max_documents"] == 4
    with pytest.raises(FingerprintError, match=r"scoring\.requests\.max_documents: 4 -> 5"):
        job_in(tmp_path, limits=replace(LISTWISE, max_documents=5)).run(ListHashScorer())


def test_a_resumed_run_reads_the_same_requests(tmp_path: Path) -> None:
    job = job_in(tmp_path, unit_pairs=5)
    assert run_in_a_process(job, "part_published:3", ListHashScorer()) == crash_points.EXIT_CODE
    assert len([*(tmp_path / "out" / "scores").glob("*.parquet")]) == 3
    assert job.run(ListHashScorer()).exit_code == 0
    assert logits_in(tmp_path) == expected()


def test_a_dead_letter_is_left_out_of_its_request_and_the_report_says_so(tmp_path: Path) -> None:
    report = job_in(tmp_path, refused=(6, 1)).run(ListHashScorer())
    assert logits_in(tmp_path) == expected(without="q6-1")
    [warning] = report.warnings
    assert warning.startswith("1 candidates are dead letters. The model reads the documents of a request together")
    with pytest.raises(ConfigError, match="dead letters have no scores of their own"):
        redrive_output(str(tmp_path / "out"), str(tmp_path / "again"))


class CountingScorer(ListHashScorer):
    def __init__(self, moved: float = 0.0) -> None:
        self.requests: list[tuple[str, list[str]]] = []
        self.moved = np.float32(moved)

    def score(self, inputs: ModelInputs, **options: object) -> PairScores:
        assert isinstance(inputs, RequestInputs)
        self.requests += texts_of(inputs)
        return PairScores(super().score(inputs).logits + self.moved)


@pytest.mark.parametrize("unit_pairs", [5, 100])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_lists_that_are_all_the_same_are_reused_and_the_others_read_whole(
    tmp_path: Path, unit_pairs: int, is_reversed: bool
) -> None:
    job = job_in(tmp_path, unit_pairs=unit_pairs)
    job.run(ListHashScorer())
    rows = pq.read_table(job.input).to_pylist()
    rows[3]["candidates"][1]["text"] += " new"  # another text
    rows[5]["candidates"].reverse()  # another order
    del rows[7]["candidates"][0]  # one less
    rows[2]["candidates"][0]["doc_id"] = "another id"  # the same texts
    tonight = pa.Table.from_pylist(rows[::-1] if is_reversed else rows, schema=pq.read_schema(job.input))
    night = replace(job, input=str(write(tonight, tmp_path / "night.parquet")), output=str(tmp_path / "night"))
    full = replace(night, output=str(tmp_path / "full"))
    full.run(ListHashScorer())
    scorer = CountingScorer()
    report = replace(night, reuse={"from": job.output, "required": True, "verify_sample": 4}).run(scorer)
    assert report.reuse is not None
    assert report.reuse.check is not None
    assert report.reuse.check.is_within
    assert report.totals.reused == sum(range(9)) - 3 - 5 - 7
    changed = {"query 3": 3, "query 5": 5, "query 7": 6}
    read = {query: {text for of, texts in scorer.requests if of == query for text in texts} for query in changed}
    assert {query: len(texts) for query, texts in read.items()} == changed
    first, second = (pq.read_table(Path(of.output) / "scores").sort_by("doc_id") for of in (full, night))
    assert second.equals(first)


def test_a_model_that_gives_other_scores_now_reuses_nothing(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    job.run(ListHashScorer())
    rows = pq.read_table(job.input).to_pylist()
    rows[3]["candidates"][1]["text"] += " new"
    night = replace(job, output=str(tmp_path / "night"), reuse={"from": job.output, "verify_sample": 4})
    write(pa.Table.from_pylist(rows, schema=pq.read_schema(job.input)), Path(job.input))
    report = night.run(CountingScorer(moved=1))
    assert report.totals.reused == 0
    assert report.reuse is not None
    assert report.reuse.refused


def test_ranks_follow_the_logits_across_requests(tmp_path: Path) -> None:
    job_in(tmp_path, top_n=3).run(ListHashScorer())
    table = pq.read_table(tmp_path / "out" / "scores")
    of_last = table.filter(pc.equal(table["query_id"], "q8")).sort_by("rank")
    best = sorted((logit for doc_id, logit in expected().items() if doc_id.startswith("q8-")), reverse=True)
    assert of_last["logit"].to_pylist() == best[:3]
