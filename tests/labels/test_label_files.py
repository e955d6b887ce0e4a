"""docs/files.md names all fields of the files of labels, and the page of labels shows its report."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from teachers import Bench, ChosenScorer, chosen
from test_files_page import check, documented

from reranker_batch import status
from reranker_batch.exporting.export import export
from reranker_batch.labels.reasons import MEANINGS
from reranker_batch.page.labels import label_page

MEANT = {fate.code: text for fate, text in MEANINGS.items()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("labels"))
    groups = [
        chosen("q", ("a", (5.0, 4.0)), ("b", (1.0, 3.9)), ("c", (0.0, 0.5)), ("d", (-1.0, 1.0))),
        chosen("r", ("e", (2.0, 2.0))),
    ]
    bench.write_input(groups)
    for at, name in enumerate(("one", "two")):
        bench.teach(name, ChosenScorer(at))
    bench.label(["one", "two"])
    return bench


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def at(report: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        report = report[int(step)] if isinstance(report, list) else report[step]
    return report


def test_the_records_of_labels(bench: Bench) -> None:
    run = bench.folder / "labels" / "run"
    check(documented("run/labels.json"), read(run / "labels.json"))
    check(documented("run/labels_report.json"), read(run / "labels_report.json"))


def test_the_status_of_labels(bench: Bench) -> None:
    heading = "What commands print as JSON"
    check(documented(heading, "labels status field"), status(str(bench.folder / "labels")).to_dict())


def test_the_columns_and_footers_of_labels(bench: Bench) -> None:
    (labels,), (dropped,) = ([*(bench.folder / "labels" / name).glob("part-*")] for name in ("labels", "dropped"))
    heading = "labels/part-<unit_id>.parquet"
    schema = pq.read_schema(labels)
    assert documented(heading, "labels column") == schema.names
    for name in ("positives", "negatives"):
        assert [field.name for field in schema.field(name).type.value_type] == documented(heading, "field of a label")
    assert documented("dropped/part-<unit_id>.parquet", "dropped column") == pq.read_schema(dropped).names
    footers = [json.loads(pq.read_metadata(path).metadata[b"reranker_batch_labels"]) for path in (labels, dropped)]
    check(documented(heading, "labels footer"), *footers)


def test_the_record_of_a_training_set(bench: Bench, tmp_path: Path) -> None:
    export(str(bench.folder / "labels"), str(tmp_path / "set"), format="st-list")
    record = read(tmp_path / "set" / "export.json")
    check(documented("export.json"), {**record, "left_out": {"no_negatives": 1}})


def test_the_page_shows_what_the_report_says(bench: Bench) -> None:
    report = read(bench.folder / "labels" / "run" / "labels_report.json")
    page = label_page(report, MEANT).decode()
    for text in ("Agreement of the teachers", "Negatives by margin", "too_few_negatives", "one", "two"):
        assert text in page
    assert "<script" not in page
    numbers = re.findall(r'<data value="([^"]+)" data-at="([^"]+)"', page)
    assert {pointer for _, pointer in numbers} >= {"/agreements/0/tau", "/dropped/too_close", "/scales/one/offset"}
    for value, pointer in numbers:
        assert float(value) == at(report, pointer), pointer
    assert label_page(report, MEANT).decode() == page


def test_a_page_shows_hostile_texts_as_texts_and_labels_of_nothing(bench: Bench, tmp_path: Path) -> None:
    report = read(bench.folder / "labels" / "run" / "labels_report.json")
    hostile = label_page({**report, "output": "<script>alert(1)</script>"}, MEANT).decode()
    assert "<script>" not in hostile
    empty = Bench(tmp_path)
    empty.write_input([])
    empty.teach("one", ChosenScorer(0))
    assert b"What was dropped" not in label_page(asdict(empty.label(["one"])), MEANT)
