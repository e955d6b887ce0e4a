"""Labels, opened for reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reranker_batch.config.labels import LabelConfig
from reranker_batch.labels.examples import Examples
from reranker_batch.labels.exports.shards import Shape
from reranker_batch.labels.record import LabelRecord, open_labels, refuse_target
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.label_parts import LABELS, read_label_part
from reranker_batch.storage.output.ranked_lists import ranked_lists_of


@dataclass(frozen=True)
class FinishedLabels:
    """Complete labels with their record."""

    folder: Folder
    record: LabelRecord

    @classmethod
    def open(cls, place: str) -> FinishedLabels:
        """Raises ConfigError where there are none or they are not finished, CommitError where they cannot be read."""
        return cls(*open_labels(place))

    def check_target(self, target: str) -> None:
        """Raises ConfigError where an export would be written into what the labels were made from."""
        refuse_target(LabelConfig.of(self.record.config), target)

    @property
    def shape(self) -> Shape:
        return Shape(num_negatives=self.record.settings["labels"]["negatives"]["num"])

    @property
    def num_queries(self) -> int:
        return sum(len(part) for part in self.parts())

    @property
    def model(self) -> tuple[str, str | None]:
        """The teachers, for formats that name a model."""
        return "+".join(self.record.teachers), None

    def parts(self) -> Iterator[Examples]:
        """The labels of each unit. Raises CommitError when a part cannot be read."""
        for unit_id in self.record.units:
            yield Examples.of(read_label_part(self.folder, LABELS, unit_id).rows)

    def ranked_lists(self, columns: Sequence[str] = ("doc_id", "logit")) -> Iterator[pa.Table]:
        """Positives and negatives together by score, which stands for the logit."""
        for part in self.parts():
            items = part.positives + part.negatives
            order = np.lexsort((-items.scores, items.query))
            doc_ids = items.doc_ids.take(pa.array(order))
            flat = {
                "doc_id": doc_ids,
                "logit": pa.array(items.scores[order]),
                "index": pa.array(order.astype(np.int32)),
            }
            yield ranked_lists_of(part.query_ids, items.lengths, {name: flat[name] for name in columns})
