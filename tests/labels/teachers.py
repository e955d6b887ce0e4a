"""Teachers for tests: finished outputs of one small input, scored by hashes or by chosen logits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from engine import SmallJob, forks
from oracle import HashScorer
from tables import Group, nested_table, pairs_table, write

from reranker_batch.config.labels import LabelConfig
from reranker_batch.core.ragged import IntArray
from reranker_batch.labels.finishing import make_labels
from reranker_batch.labels.making import open_label_job
from reranker_batch.labels.report import LabelReport
from reranker_batch.storage.output import crash_points


def made(config: LabelConfig) -> LabelReport:
    return make_labels(open_label_job(config), on_recorded=lambda output, report: None)


def make_in_a_process(config: LabelConfig, crash_at: str = "") -> int:
    """Make labels in a fresh process that may crash; its exit code."""
    process = forks().Process(target=_armed, args=(config, crash_at))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def _armed(config: LabelConfig, crash_at: str) -> None:
    os.environ[crash_points.VARIABLE] = crash_at
    made(config)


class ChosenScorer(HashScorer):
    """The logit that is written at the end of the document for this teacher: `text|1.5|-2` has two."""

    def __init__(self, teacher: int) -> None:
        super().__init__()
        self.teacher = teacher

    def _one(self, ids: IntArray, document_at: int) -> np.float32:
        text = (ids[document_at:-1] - 3).astype(np.uint8).tobytes().decode()
        return np.float32(text.split("|")[1:][self.teacher])


@dataclass(frozen=True)
class Bench:
    """A folder with an input, its teachers and labels."""

    folder: Path
    layout: str = "nested"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def write_input(self, *files: Sequence[Group], row_group_size: int = 3, **more: Sequence[Any]) -> None:
        for at, groups in enumerate(files):
            table = nested_table(groups, **more) if self.layout == "nested" else pairs_table(groups)
            write(table, self.folder / "in" / f"{at}.parquet", row_group_size=row_group_size)

    def teach(self, name: str, scorer: HashScorer, **changes: Any) -> None:
        job = SmallJob(str(self.folder / "in"), str(self.folder / name), layout=self.layout, top_n=None)
        replace(job, **{"output_layout": "nested", **changes}).run(scorer)

    def config(self, teachers: Sequence[str | Mapping[str, Any]], /, **labels: Any) -> LabelConfig:
        named = [{"name": one} if isinstance(one, str) else dict(one) for one in teachers]
        values = {
            "teachers": [{"output": str(self.folder / one["name"]), **one} for one in named],
            "positives": {"from": "top1"},
            **labels,
        }
        return LabelConfig.of({"labels": values, "output": {"path": str(self.folder / "labels")} | dict(self.settings)})

    def label(self, teachers: Sequence[str | Mapping[str, Any]], **labels: Any) -> LabelReport:
        return made(self.config(teachers, **labels))

    def rows(self) -> list[dict[str, Any]]:
        return pl.read_parquet(self.folder / "labels" / "labels" / "part-*.parquet").to_dicts()

    def dropped(self) -> list[dict[str, Any]]:
        return pl.read_parquet(self.folder / "labels" / "dropped" / "part-*.parquet").to_dicts()

    def parts(self) -> dict[str, bytes]:
        """Every part by its name below the labels."""
        place = self.folder / "labels"
        return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.glob("*/part-*.parquet"))}


def chosen(query_id: str, *candidates: tuple[str, float | Sequence[float]]) -> Group:
    """A query whose candidates have an id and a logit, or one of each teacher."""
    texts = [
        (doc_id, f"{doc_id} of {query_id}|" + "|".join(map(str, logits if isinstance(logits, Sequence) else [logits])))
        for doc_id, logits in candidates
    ]
    return query_id, f"query {query_id}", texts
