"""One judge for every fault: what a run left behind is held against the oracle."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from oracle import Answer, answers
from tables import Group

from reranker_batch import verify_output

Place = tuple[int, int]
"""Row of the input and index of the candidate in it; tests have one input file."""


def judge(folder: Path, groups: list[Group], *, dead: dict[Place, str] | None = None) -> dict[str, Any]:
    """Hold a finished `folder/out`, whose job tolerates its dead letters, against the oracle; gives its report.

    Every candidate once, published with the oracle's score and rank or among the dead letters of `dead`;
    `_SUCCESS` is there, nothing is left aside, and the output proves itself.
    """
    dead = dead or {}
    scores = folder / "out" / "scores"
    assert (scores / "_SUCCESS").exists()
    assert not (folder / "out" / "run" / "staging").exists()
    assert kept(folder) == expected(groups, dead)
    assert letters(folder) == dead
    assert verify_output(str(folder / "out")).problems == []
    report = report_of(folder)
    assert report["status"] == "complete"
    assert report["totals"]["candidates"] == sum(len(candidates) for _, _, candidates in groups)
    assert report["totals"]["dead_letters"] == Counter(dead.values())
    assert report["missing"] == []
    return report


def judge_unfinished(folder: Path, groups: list[Group], *, status: str) -> dict[str, Any]:
    """Hold what an interrupted or failed run left against the oracle: no success, and what is there is right."""
    assert not (folder / "out" / "scores" / "_SUCCESS").exists()
    whole = expected(groups, {})
    assert all(answer in whole for answer in kept(folder))
    report = report_of(folder)
    assert report["status"] == status
    assert len(report["missing"]) == report["units"] - report["units_published"] > 0
    return report


def expected(groups: list[Group], dead: dict[Place, str]) -> list[Answer]:
    refused = [{index for at, index in dead if at == row} for row in range(len(groups))]
    return [answer for group, out in zip(groups, refused, strict=True) for answer in answers(*group, refused=out)]


def kept(folder: Path) -> list[Answer]:
    files = sorted((folder / "out" / "scores").glob("*.parquet"))
    columns = ["query_id", "doc_id", "index", "rank", "logit"]
    return [Answer(**row) for file in files for row in pl.read_parquet(file).select(columns).to_dicts()]


def letters(folder: Path) -> dict[Place, str]:
    files = sorted((folder / "out" / "dead_letters").glob("*.parquet"))
    rows = [row for file in files for row in pl.read_parquet(file).select("row", "index", "reason_code").rows()]
    places = {(row, index): reason for row, index, reason in rows}
    assert len(places) == len(rows)
    return places


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "out" / "run" / "report.json").read_text())
    return report


def parts(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every part."""
    files = sorted((folder / "out" / "scores").glob("*.parquet"))
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
