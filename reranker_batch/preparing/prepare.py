"""Join a run with its queries and its corpus, in stages of independent tasks whose files stay until the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import pyarrow as pa

from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.core.mapping import Caught, Mapper, in_threads, raised
from reranker_batch.errors import CommitError, InputError, ReplicaError, first_line
from reranker_batch.preparing.assembling import PART_COUNTS, AssembleQueries, Texts
from reranker_batch.preparing.columns import run_table, text_table
from reranker_batch.preparing.missing import no_match, write_missing
from reranker_batch.preparing.record import VERSION, PreparedFolder, PreparedRecord, RowCounts
from reranker_batch.preparing.routing import RouteTexts
from reranker_batch.preparing.sizing import buckets_for
from reranker_batch.preparing.sources import RunTable, TextTable
from reranker_batch.preparing.splitting import OrderQueries, SplitRun, SplitTexts
from reranker_batch.preparing.work import WORK, Stage, Work, file_name, part_name
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.retrying import retried
from reranker_batch.storage.tables.pieces import Piece, pieces

Item = TypeVar("Item")
OnProgress = Callable[[str, int, int], None]
"""Told the name of a stage, how many of its tasks are done, and how many there are."""


def ignore(stage: str, done: int, total: int) -> None:
    """For callers that show nothing."""


@dataclass(frozen=True)
class Sources:
    """The three tables of a reference preparation."""

    run: RunTable
    queries: TextTable
    corpus: TextTable

    @classmethod
    def of(cls, config: PrepareConfig) -> Sources:
        """Find files and columns.

        Raises:
            ConfigError, InputError: A table cannot be used.
        """
        return cls(run_table(config), text_table(config.queries, "queries"), text_table(config.corpus, "corpus"))

    def record(self, config: PrepareConfig) -> PreparedRecord:
        """What is to be prepared from them, and in how many buckets."""
        query_buckets, document_buckets = buckets_for(self.run, self.corpus)
        tables = {"run": self.run, "queries": self.queries, "corpus": self.corpus}
        settings = {
            "depth": config.depth,
            "on_missing": config.on_missing,
            "on_duplicate_id": config.on_duplicate_id,
            "drop_identical_ids": config.drop_identical_ids,
            **{name: _read_as(table) for name, table in tables.items()},
        }
        sources = {name: table.files.identity() for name, table in tables.items()}
        return PreparedRecord(VERSION, "reference", settings, sources, query_buckets, document_buckets)


def _read_as(table: RunTable | TextTable) -> dict[str, Any]:
    """Form and columns."""
    values = {name: value for name, value in vars(table).items() if name not in ("files", "kind")}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {"form": table.files.form, "has_header": table.files.has_header, **plain}


def prepare_reference(
    config: PrepareConfig, goal: str, each: Mapper, on_progress: OnProgress = ignore
) -> PreparedRecord:
    """Write prepared input to `goal`, or finish what was begun there; what is complete is left as it is.

    The caller holds the lock of the folder.

    Raises:
        ConfigError: The folder was prepared from other files or settings, or holds other files.
        InputError: A table cannot be used, ids repeat or are missing where that is refused, or nothing joins.
        CommitError: Something cannot be written.
    """
    sources, folder = Sources.of(config), PreparedFolder(Folder.at(goal))
    record = folder.begin(sources.record(config))
    reached("prepare_begun")
    if record.counts is None:
        try:
            record = _Preparation(config, sources, folder, record, each, on_progress).to_its_end()
        except InputError:
            folder.write(replace(record, is_refused=True))
            raise
    folder.drop_work()
    return record


@dataclass(frozen=True)
class _Preparation:
    config: PrepareConfig
    sources: Sources
    folder: PreparedFolder
    record: PreparedRecord
    each: Mapper
    on_progress: OnProgress

    @property
    def work(self) -> Work:
        record = self.record
        return Work(self.folder.folder, record.key, record.query_buckets, record.document_buckets)

    def to_its_end(self) -> PreparedRecord:
        run, queries, corpus = (self._pieces(table) for table in vars(self.sources).values())
        self._split(run, queries)
        self._order(len(run))
        num_texts = self._route(corpus)
        self._refuse_no_documents(num_texts)
        self._assemble(queries, corpus, num_texts)
        counts = self._counts(len(queries), num_texts)
        self._refuse_no_queries(counts)
        write_missing(self.work)
        reached("prepare_missing_written")
        record = replace(self.record, counts=counts, parts=self.work.query_buckets)
        self.folder.write(record)
        reached("prepare_recorded")
        return record

    def _pieces(self, table: RunTable | TextTable) -> dict[int, Piece]:
        return dict(enumerate(pieces(table.files)))

    def _split(self, run: Mapping[int, Piece], queries: Mapping[int, Piece]) -> None:
        work, sources = self.work, self.sources
        self._stage("run", SplitRun(work, sources.run), {number: (number, run[number]) for number in run})
        split = SplitTexts(work, sources.queries, "queries", work.query_buckets)
        self._stage("queries", split, {number: (number, queries[number]) for number in queries})

    def _order(self, num_pieces: int) -> None:
        config, order = self.config, self.sources.run.order
        task = OrderQueries(self.work, num_pieces, order, config.depth, config.drop_identical_ids)
        self._stage("order", task, {bucket: bucket for bucket in range(self.work.query_buckets)})

    def _route(self, corpus: Mapping[int, Piece]) -> int:
        """Look up documents; where a task cannot hold all that is needed, they are first split by their ids."""
        work, source = self.work, self.sources.corpus
        route = RouteTexts(work, source, len(corpus))
        if work.document_buckets == 1:
            self._stage("texts", route, {number: (number, corpus[number]) for number in corpus})
            return len(corpus)
        split = SplitTexts(work, source, "corpus", work.document_buckets)
        self._stage("corpus", split, {number: (number, corpus[number]) for number in corpus})
        self._stage("texts", route, {number: (number, None) for number in range(work.document_buckets)})
        return work.document_buckets

    def _assemble(self, queries: Mapping[int, Piece], corpus: Mapping[int, Piece], num_texts: int) -> None:
        config, sources = self.config, self.sources
        task = AssembleQueries(
            self.work,
            Texts(sources.queries, tuple(queries.values())),
            Texts(sources.corpus, tuple(corpus.values())),
            num_texts,
            config.on_missing,
            config.on_duplicate_id == "fail",
        )
        present = self.folder.names()
        buckets = [number for number in range(self.work.query_buckets) if part_name(number) not in present]
        self._run("parts", task, buckets, self.work.query_buckets)

    def _stage(self, stage: Stage, task: Callable[[Item], int], items: Mapping[int, Item]) -> None:
        """Do the tasks of a stage that have not left their file yet."""
        present = self.folder.names(WORK)
        left = [item for number, item in items.items() if file_name(stage, number) not in present]
        self._run(stage, task, left, len(items))

    def _run(self, stage: str, task: Callable[[Item], int], items: Sequence[Item], total: int) -> None:
        done = total - len(items)
        self.on_progress(stage, done, total)
        if items:
            for _ in raised(self.each(Caught(_Retried(task)), items)):
                done += 1
                self.on_progress(stage, done, total)
                reached("prepare_task_done")

    def _facts(self, stage: Stage, count: int) -> list[Mapping[str, Any]]:
        return list(in_threads(lambda number: self.work.open(stage, number).facts, range(count)))

    def _counts(self, num_queries: int, num_texts: int) -> RowCounts:
        """Raises CommitError when a row is neither in the result nor counted as left out."""
        buckets = self.work.query_buckets
        ordered, parts = self._facts("order", buckets), self._facts("missing", buckets)
        counts = RowCounts(
            rows=_total(ordered, "rows"),
            cut_by_depth=_total(ordered, "cut"),
            repeated=_total(ordered, "repeated"),
            identical=_total(ordered, "identical"),
            query_rows=_total(self._facts("queries", num_queries), "rows"),
            corpus_rows=_total(self._facts("texts", num_texts), "rows"),
            **{name: _total(parts, name) for name in PART_COUNTS},
        )
        if counts.accounted != counts.rows:
            raise CommitError(f"{counts.rows:,} rows were read and {counts.accounted:,} are accounted for: {counts}.")
        return counts

    def _refuse_no_documents(self, num_texts: int) -> None:
        """Raises InputError when no document of the run is in the corpus."""
        if _total(self._facts("order", self.work.query_buckets), "kept"):
            texts = self._facts("texts", num_texts)
            if not _total(texts, "routed"):
                raise no_match(self.work, self.sources.corpus, "doc_id", rows=_total(texts, "rows"))

    def _refuse_no_queries(self, counts: RowCounts) -> None:
        """Raises InputError when no query of the run has a text."""
        if counts.missing_queries and not _total(self._facts("missing", self.work.query_buckets), "queries_with_text"):
            raise no_match(self.work, self.sources.queries, "query_id", rows=counts.query_rows)


@dataclass(frozen=True)
class _Retried(Generic[Item]):
    """A task that is done again after an error that can pass."""

    task: Callable[[Item], int]

    def __call__(self, item: Item) -> int:
        try:
            return retried(lambda: self.task(item), type(self.task).__name__)
        except (MemoryError, pa.ArrowMemoryError) as error:
            raise ReplicaError(
                f"A task of the preparation ({type(self.task).__name__}) has not enough memory: {first_line(error)}. The "
                "same command goes on from here."
            ) from error


def _total(facts: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(int(fact[name]) for fact in facts)
