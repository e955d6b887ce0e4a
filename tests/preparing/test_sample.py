"""A plan of input that is made ready first: from a part of it, with nothing left behind."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tables import nested_table, random_groups, write
from typed import run_config

from reranker_batch import JobConfig
from reranker_batch.errors import InputError
from reranker_batch.job.estimate import estimate_job


def config(folder: Path, **sections: Any) -> JobConfig:
    values = {"model": {"name": "builtin:mini"}, "output": {"path": str(folder / "out")}, **sections}
    values["runtime"] = {"engine": "local", "unit_pairs": 1000}
    return JobConfig.of(values)


def lines(count: int) -> str:
    rows = ({"query_id": at, "query": f"query {at}", "candidates": ["x" * 400] * 4} for at in range(count))
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_small_table_is_counted_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines(50), encoding="utf-8")
    estimate = estimate_job(config(tmp_path, input={"path": str(tmp_path / "in.jsonl")}))
    assert (estimate.files, estimate.rows, estimate.pairs, estimate.is_exact) == (1, 50, 200, True)
    assert dict(estimate.rows_to_show())["pairs"] == "200"
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_a_large_table_is_scaled_up_from_a_part_and_says_so(tmp_path: Path, form: str) -> None:
    if form == "parquet":
        long = "x" * 4_000
        groups = [(f"q{at}", "query", [(f"d{n}", f"{at}-{n} {long}") for n in range(4)]) for at in range(1_200)]
        write(nested_table(groups), tmp_path / "in.parquet", row_group_size=50)
        columns, pairs = {"document": ["doc_id", "text"]}, 4_800
    else:
        text = lines(8_000).encode()
        content = text if form == "jsonl" else gzip.compress(text, compresslevel=1)
        (tmp_path / f"in.{form}").write_bytes(content)
        columns, pairs = {}, 32_000
    estimate = estimate_job(config(tmp_path, input={"path": str(tmp_path / f"in.{form}"), "columns": columns}))
    assert not estimate.is_exact
    assert estimate.to_dict()["is_exact"] is False
    assert dict(estimate.rows_to_show())["pairs"].startswith("about ")
    assert abs(estimate.pairs - pairs) < (0.5 if form == "jsonl.gz" else 0.02) * pairs
    assert abs(estimate.units - estimate.pairs / 1000) < 3


def test_a_plan_is_exact_once_the_input_is_there(tmp_path: Path) -> None:
    groups = random_groups(12, max_candidates=3)
    rows = [{"query": query, "candidates": [text for _, text in candidates]} for _, query, candidates in groups]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    job = config(tmp_path, input={"path": str(tmp_path / "in.jsonl")})
    report = run_config(job)
    estimate = estimate_job(job)
    assert (estimate.pairs, estimate.is_exact) == (sum(len(group[2]) for group in groups), True)
    assert report.totals.candidates == sum(len(group[2]) for group in groups)


def test_what_a_run_would_refuse_a_plan_refuses(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines(3) + "{\n", encoding="utf-8")
    with pytest.raises(InputError, match="in.jsonl, line 4 is not JSON"):
        estimate_job(config(tmp_path, input={"path": str(tmp_path / "in.jsonl")}))


@pytest.mark.parametrize("has_texts", [True, False])
def test_a_large_input_that_is_prepared_first_is_scaled_up_too(tmp_path: Path, *, has_texts: bool) -> None:
    text = "word " * 300
    order = [(at * 7_919) % 12_500 for at in range(12_500)]
    rest = f"query\t{text}" if has_texts else "0.5"
    run = "".join(f"q{at % 500}\t{at}\t{rest}{at}\n" for at in order)
    (tmp_path / "run.tsv").write_text(run, encoding="utf-8")
    sections: dict[str, Any] = {"prepare": {"run": str(tmp_path / "run.tsv")}}
    if has_texts:
        sections["input"] = {"layout": "pairs", "columns": {"query_id": 0, "doc_id": 1, "query": 2, "document": 3}}
    else:
        (tmp_path / "queries.tsv").write_text("".join(f"q{at}\tquery\n" for at in range(500)), encoding="utf-8")
        (tmp_path / "corpus.tsv").write_text("".join(f"{at}\t{text}{at}\n" for at in range(12_500)), encoding="utf-8")
        for name in ("queries", "corpus"):
            sections["prepare"][name] = {"path": str(tmp_path / f"{name}.tsv"), "id": 0, "text": 1}
        sections["prepare"]["run"] = {"path": str(tmp_path / "run.tsv"), "score": 2}
    estimate = estimate_job(config(tmp_path, **sections))
    assert not estimate.is_exact
    assert abs(estimate.pairs - 12_500) < 0.1 * 12_500
    tokens = estimate.scaled(estimate.sample.model_tokens) / estimate.pairs
    assert 0.5 * 512 < tokens <= 512
