"""Stages of tasks, each of which leaves a file: what is there already is not made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import pyarrow as pa

from reranker_batch.core.mapping import Caught, Mapper, in_threads, raised
from reranker_batch.errors import CommitError, InputError, ReplicaError, first_line
from reranker_batch.preparing.record import PreparedFolder, PreparedRecord, RowCounts
from reranker_batch.preparing.work import WORK, Stage, Work, file_name, part_name
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.tables.pieces import Piece, pieces
from reranker_batch.storage.tables.table_files import TableFiles

Item = TypeVar("Item")
OnProgress = Callable[[str, int, int], None]
"""Told the name of a stage, how many of its tasks are done, and how many there are."""


def ignore(stage: str, done: int, total: int) -> None:
    """For callers that show nothing."""


@dataclass(frozen=True)
class Stages:
    """One attempt at a preparation, whose record is written."""

    folder: PreparedFolder
    record: PreparedRecord
    each: Mapper
    on_progress: OnProgress
    num_ranges: int = 0

    @property
    def work(self) -> Work:
        record = self.record
        return Work(self.folder.folder, record.key, self.num_ranges, record.document_buckets)

    def do(self, stage: Stage, task: Callable[[Item], int], items: Mapping[int, Item]) -> None:
        """Do the tasks of a stage that have not left their file yet.

        Raises:
            RerankerBatchError: What the first task raised that failed.
        """
        present = self.folder.names(WORK)
        left = [item for number, item in items.items() if file_name(stage, number) not in present]
        self._run(stage, task, left, len(items))

    def do_parts(self, task: Callable[[int], int]) -> None:
        """Write the parts that are not there yet, one for each range of queries."""
        present, total = self.folder.names(), self.num_ranges
        left = [number for number in range(total) if part_name(number) not in present]
        self._run("parts", task, left, total)

    def facts(self, stage: Stage, count: int) -> list[Mapping[str, Any]]:
        """What the files of a stage say of themselves. Raises CommitError where one cannot be read."""
        return list(in_threads(lambda number: self.work.open(stage, number).facts, range(count)))

    def _run(self, stage: str, task: Callable[[Item], int], items: Sequence[Item], total: int) -> None:
        done = total - len(items)
        self.on_progress(stage, done, total)
        if items:
            for _ in raised(self.each(Caught(_Retried(task)), items)):
                done += 1
                self.on_progress(stage, done, total)
                reached("prepare_task_done")


@dataclass(frozen=True)
class Made:
    """What a preparation came to."""

    counts: RowCounts
    parts: int


def finish(
    folder: PreparedFolder,
    asked: PreparedRecord,
    make: Callable[[Stages], Made],
    each: Mapper,
    on_progress: OnProgress,
) -> PreparedRecord:
    """The record of a preparation, made where it is not complete.

    Raises:
        CommitError: A row is neither in the result nor counted as left out, or something cannot be written.
        RerankerBatchError: What `make` raises.
    """
    record = folder.begin(asked)
    reached("prepare_begun")
    if record.counts is None:
        stages = Stages(folder, record, each, on_progress)
        try:
            made = make(stages)
        except InputError:
            folder.write(replace(record, is_refused=True))
            raise
        counts = made.counts
        if counts.accounted != counts.rows:
            raise CommitError(f"{counts.rows:,} rows were read and {counts.accounted:,} are accounted for: {counts}.")
        record = replace(record, counts=counts, parts=made.parts)
        folder.write(record)
        reached("prepare_recorded")
    folder.drop_work()
    return record


def numbered(files: TableFiles) -> dict[int, Piece]:
    """The pieces of a table. Raises InputError where a file cannot be used."""
    return dict(enumerate(pieces(files)))


def total(facts: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(int(fact[name]) for fact in facts)


@dataclass(frozen=True)
class _Retried(Generic[Item]):
    """A task that is done again after an error that can pass."""

    task: Callable[[Item], int]

    def __call__(self, item: Item) -> int:
        name = type(self.task).__name__
        try:
            return retried(lambda: self.task(item), name)
        except (MemoryError, pa.ArrowMemoryError) as error:
            raise ReplicaError(
                f"A task of the preparation ({name}) has not enough memory: {first_line(error)}. The same command goes "
                "on from here."
            ) from error
