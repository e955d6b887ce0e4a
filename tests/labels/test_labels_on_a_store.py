"""Labels and training sets on an object store that runs in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import SmallJob
from object_store import object_store
from oracle import HashScorer
from tables import nested_table, random_groups, write

from reranker_batch import LabelConfig, export, label, status, verify
from reranker_batch.storage.files.filesystem import Folder


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store(monkeypatch, "training") as options:
        yield options


def test_labels_are_made_resumed_and_exported_on_an_object_store(tmp_path: Path, options: str) -> None:
    write(nested_table(random_groups(12, seed=3)), tmp_path / "in" / "a.parquet", row_group_size=2)
    teacher, labels = f"s3://training/a b/teacher{options}", f"s3://training/a b/labels{options}"
    SmallJob(str(tmp_path / "in"), teacher, top_n=None, output_layout="nested").run(HashScorer())
    exports = [{"format": "flagembedding", "target": f"s3://training/sets/flag{options}"}]
    named = {"teachers": [{"name": "one", "output": teacher}], "positives": {"from": "top1"}, "exports": exports}
    config = LabelConfig.of({"labels": named, "output": {"path": labels, "unit_pairs": 20}})
    report = label(config)
    assert report.parts == report.parts_made > 2
    folder = Folder.at(labels)
    assert set(folder.names()) == {"labels", "dropped", "run", "README.md"}
    assert set(folder.folder("run").names()) == {"labels.json", "labels_report.json", "report.html"}
    assert set(Folder.at(exports[0]["target"]).names()) == {"data", "ids", "README.md", "export.json"}
    folder.filesystem.delete_file(folder.child("labels", "_SUCCESS"))
    folder.filesystem.delete_file(folder.child("labels", "part-00000-0000000000.parquet"))
    assert status(labels).state == "interrupted"
    assert label(config).parts_made == 1
    assert (status(labels).state, verify(labels).problems) == ("complete", [])
    assert export(labels, f"s3://training/sets/list{options}", format="st-list").queries == report.labelled_queries
