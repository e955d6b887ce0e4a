"""A job of a model that reads whole requests: what is recorded, resumed, refused and told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from engine import LIMITS, SmallJob, run_in_a_process
from listwise import ListHashScorer, list_logits, requests_of
from tables import Group, nested_table, write

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


def test_a_job_scores_requests_keeps_no_memo_and_is_verified(tmp_path: Path) -> None:
    report = job_in(tmp_path).run(ListHashScorer())
    assert report.exit_code == 0
    assert logits_in(tmp_path) == expected()
    assert not [*(tmp_path / "out").glob("memo/*")]
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


def test_ranks_follow_the_logits_across_requests(tmp_path: Path) -> None:
    job_in(tmp_path, top_n=3).run(ListHashScorer())
    table = pq.read_table(tmp_path / "out" / "scores")
    of_last = table.filter(pc.equal(table["query_id"], "q8")).sort_by("rank")
    best = sorted((logit for doc_id, logit in expected().items() if doc_id.startswith("q8-")), reverse=True)
    assert of_last["logit"].to_pylist() == best[:3]
