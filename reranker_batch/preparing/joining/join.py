"""Join a run with its queries and its corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.core.mapping import Mapper
from reranker_batch.preparing.joining.assembling import PART_COUNTS, AssembleQueries, Texts
from reranker_batch.preparing.joining.columns import run_table, text_table
from reranker_batch.preparing.joining.missing import no_match, write_missing
from reranker_batch.preparing.joining.ranges import split_in_ranges
from reranker_batch.preparing.joining.routing import RouteTexts
from reranker_batch.preparing.joining.sizing import RANGE_BYTES, document_buckets, row_bytes
from reranker_batch.preparing.joining.sources import RunTable, TextTable
from reranker_batch.preparing.joining.splitting import OrderQueries, ReadRun, SplitCorpus, SplitQueries, query_ids
from reranker_batch.preparing.record import MISSING, VERSION, PreparedFolder, PreparedRecord, RowCounts
from reranker_batch.preparing.stages import Made, OnProgress, Stages, finish, ignore, numbered, total
from reranker_batch.preparing.work import Work
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.crash_points import reached
from reranker_batch.storage.tables.pieces import PIECE_BYTES, Piece


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
        """What is to be prepared from them, and how it is cut."""
        tables: dict[str, RunTable | TextTable] = {"run": self.run, "queries": self.queries, "corpus": self.corpus}
        settings = {
            "piece_bytes": PIECE_BYTES,
            "depth": config.depth,
            "on_missing": config.on_missing,
            "on_duplicate_id": config.on_duplicate_id,
            "drop_identical_ids": config.drop_identical_ids,
            **{name: _read_as(table) for name, table in tables.items()},
        }
        sources = {name: table.files.identity() for name, table in tables.items()}
        return PreparedRecord(VERSION, "reference", settings, sources, RANGE_BYTES, document_buckets(self.run))


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
    sources = Sources.of(config)

    def make(stages: Stages) -> Made:
        run = numbered(sources.run.files)
        read = ReadRun(stages.work, sources.run, row_bytes(sources.corpus))
        stages.do("run", read, {number: (number, run[number]) for number in run})
        in_ranges = split_in_ranges(stages, len(run), query_ids)
        return Made(_Joining(config, sources, in_ranges, len(run)).to_its_end(), in_ranges.num_ranges)

    return finish(PreparedFolder(Folder.at(goal)), sources.record(config), make, each, on_progress)


@dataclass(frozen=True)
class _Joining:
    """What follows when the rows of the run are in ranges."""

    config: PrepareConfig
    sources: Sources
    stages: Stages
    num_pieces: int
    """Of the run."""

    @property
    def work(self) -> Work:
        return self.stages.work

    def to_its_end(self) -> RowCounts:
        queries, corpus = numbered(self.sources.queries.files), numbered(self.sources.corpus.files)
        split = SplitQueries(self.work, self.sources.queries)
        self.stages.do("queries", split, {number: (number, queries[number]) for number in queries})
        self._order()
        num_texts = self._route(corpus)
        self._refuse_no_documents(num_texts)
        self._assemble(queries, corpus, num_texts)
        counts = self._counts(len(queries), num_texts)
        self._refuse_no_queries(counts)
        if MISSING not in self.stages.folder.names():
            write_missing(self.work)
        reached("prepare_missing_written")
        return counts

    def _order(self) -> None:
        config, order = self.config, self.sources.run.order
        task = OrderQueries(self.work, self.num_pieces, order, config.depth, config.drop_identical_ids)
        self.stages.do("order", task, {number: number for number in range(self.work.num_ranges)})

    def _route(self, corpus: Mapping[int, Piece]) -> int:
        """Look up documents; where a task cannot hold all that is needed, they are first split by their ids."""
        work, source = self.work, self.sources.corpus
        route = RouteTexts(work, source, len(corpus))
        if work.document_buckets == 1:
            self.stages.do("texts", route, {number: (number, corpus[number]) for number in corpus})
            return len(corpus)
        split = SplitCorpus(work, source)
        self.stages.do("corpus", split, {number: (number, corpus[number]) for number in corpus})
        self.stages.do("texts", route, {number: (number, None) for number in range(work.document_buckets)})
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
        self.stages.do_parts(task)

    def _counts(self, num_queries: int, num_texts: int) -> RowCounts:
        facts, ranges = self.stages.facts, self.work.num_ranges
        ordered, parts = facts("order", ranges), facts("missing", ranges)
        return RowCounts(
            rows=total(facts("run", self.num_pieces), "rows"),
            cut_by_depth=total(ordered, "cut"),
            repeated=total(ordered, "repeated"),
            identical=total(ordered, "identical"),
            query_rows=total(facts("queries", num_queries), "rows"),
            corpus_rows=total(facts("texts", num_texts), "rows"),
            **{name: total(parts, name) for name in PART_COUNTS},
        )

    def _refuse_no_documents(self, num_texts: int) -> None:
        """Raises InputError when no document of the run is in the corpus."""
        if total(self.stages.facts("order", self.work.num_ranges), "kept"):
            texts = self.stages.facts("texts", num_texts)
            if not total(texts, "routed"):
                raise no_match(self.work, self.sources.corpus, "doc_id", rows=total(texts, "rows"))

    def _refuse_no_queries(self, counts: RowCounts) -> None:
        """Raises InputError when no query of the run has a text."""
        parts = self.stages.facts("missing", self.work.num_ranges)
        if counts.missing_queries and not total(parts, "queries_with_text"):
            raise no_match(self.work, self.sources.queries, "query_id", rows=counts.query_rows)
