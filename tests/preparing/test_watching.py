"""Columns that only rows behind the sample have: none of their texts is lost without a word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from test_source import job, pairs_of

from reranker_batch.config.prepare import PrepareConfig, TextsConfig
from reranker_batch.core.mapping import in_threads
from reranker_batch.errors import InputError
from reranker_batch.preparing.joining.columns import text_table
from reranker_batch.preparing.joining.join import prepare_reference
from reranker_batch.storage.tables import reading

FILLER = "x" * 300
PASSAGE = {"docid": "a", "text": FILLER}
TEVATRON = {"query_id": "q", "query": FILLER, "positive_passages": [PASSAGE], "negative_passages": []}
WITHOUT_NEGATIVES = {name: value for name, value in TEVATRON.items() if name != "negative_passages"}
LATE = {"query_id": "z", "query": "q", "positive_passages": [], "negative_passages": [{"docid": "b", "text": "late"}]}
TITLED = {**LATE, "negative_passages": [{"docid": "b", "title": "T", "text": "late"}]}
TUPLE = {"anchor": FILLER, "positive": FILLER, "negative_1": "n"}


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SAMPLED_BYTES", 4_000)


def written(folder: Path, rows: Sequence[dict[str, Any]], last: dict[str, Any]) -> Path:
    path = folder / "in.jsonl"
    lines = [*(row for _ in range(30_000 // len(rows) // 600) for row in rows), last]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "last", "more", "columns"),
    [
        (WITHOUT_NEGATIVES, LATE, "negative_passages", {"candidates": ["positive_passages", "negative_passages"]}),
        (TEVATRON, TITLED, "title", {"document": ["title", "text"]}),
        (
            TUPLE,
            {**TUPLE, "negative_2": "late"},
            "negative_2",
            {"candidates": ["positive", "negative_1", "negative_2"]},
        ),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_what_the_sample_did_not_show_stops_the_job_and_the_columns_of_the_message_read_it(
    tmp_path: Path, row: dict[str, Any], last: dict[str, Any], more: str, columns: dict[str, Any], *, is_named: bool
) -> None:
    path = written(tmp_path, [row], last)
    of_format = {"format": "n-tuples" if row is TUPLE else "tevatron"}
    with pytest.raises(InputError, match=rf"do not have: {more}\. Set input: .* in\.jsonl, line \d+ on") as info:
        pairs_of(job(path, tmp_path / "out", **(of_format if is_named else {})))
    shown = yaml.safe_load(str(info.value).partition("Set input: ")[2].partition(", so that")[0])
    assert shown == {**of_format, "columns": columns}
    found = pairs_of(job(path, tmp_path / "again", **shown))
    assert found[-1][3] == ("T late" if more == "title" else "late")


def test_a_title_that_only_later_documents_of_a_corpus_have_is_read(tmp_path: Path) -> None:
    documents = [*({"_id": f"d{at}", "text": FILLER} for at in range(300)), {"_id": "z", "title": "T", "text": "late"}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents), encoding="utf-8")
    (tmp_path / "queries.tsv").write_text("q1\tquery\n", encoding="utf-8")
    (tmp_path / "run.trec").write_text("q1 Q0 z 1 2 t\nq1 Q0 d3 2 1 t\n", encoding="utf-8")
    tables = {"run": "run.trec", "queries": "queries.tsv", "corpus": "corpus.jsonl"}
    for name, text in (("usual", {}), ("named", {"text": ["title", "text"]})):
        paths: dict[str, Any] = {key: {"path": str(tmp_path / path)} for key, path in tables.items()}
        config = PrepareConfig.model_validate({**paths, "corpus": {**paths["corpus"], **text}})
        prepare_reference(config, str(tmp_path / name), in_threads)
        [row] = pq.read_table(tmp_path / name).to_pylist()
        assert [each["text"] for each in row["candidates"]] == ["T late", FILLER]


@pytest.mark.parametrize(("first", "is_header"), [("q0\tquestion", False), ("id\ttext", True), ("qid\tx\ttext", True)])
def test_a_first_query_of_one_word_is_no_header(tmp_path: Path, first: str, *, is_header: bool) -> None:
    tail = "" if first.count("\t") == 1 else "\t"
    (tmp_path / "queries.tsv").write_text(f"{first}\nq1\tquery{tail}\n", encoding="utf-8")
    table = text_table(TextsConfig(path=str(tmp_path / "queries.tsv")), "queries")
    assert table.files.has_header == is_header
