"""What every task of a preparation knows, and where tasks leave what the next stage reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reranker_batch.storage.files.bucketed import BucketFile
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.input.reading import PREPARING as WORK

Stage = Literal["run", "ranges", "split", "queries", "order", "corpus", "texts", "missing"]


@dataclass(frozen=True)
class Work:
    """A folder of prepared input in the making. Small, and the same in every process."""

    goal: Folder
    key: str
    """Of the sources and settings: what is read in one preparation is never taken for that of another."""
    num_ranges: int
    """Of query ids, each of which becomes a part; 0 until they are known."""
    document_buckets: int

    @property
    def folder(self) -> Folder:
        return self.goal.folder(WORK)

    def open(self, stage: Stage, number: int) -> BucketFile:
        """What a task of a stage has left.

        Raises:
            CommitError: It is missing or damaged.
        """
        return BucketFile.open(self.folder, file_name(stage, number))


def file_name(stage: Stage, number: int) -> str:
    return f"{stage}-{number:05}.arrow"


def part_name(number: int) -> str:
    return f"part-{number:05}.parquet"
