"""Group rows of pairs, which carry their texts, by query; the rows of a query keep their order in the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reranker_batch.config import InputConfig
from reranker_batch.config.prepare import PrepareConfig
from reranker_batch.core.mapping import Mapper
from reranker_batch.core.pair_texts import DistinctTexts
from reranker_batch.core.pairs import BoolArray
from reranker_batch.core.ragged import LongArray
from reranker_batch.errors import InputError
from reranker_batch.preparing.conversion.convert import plain_settings
from reranker_batch.preparing.conversion.task import unified_schema
from reranker_batch.preparing.joining.ranges import gather_rows, row_files, split_in_ranges
from reranker_batch.preparing.joining.sizing import RANGE_BYTES
from reranker_batch.preparing.joining.stored import StoredRows
from reranker_batch.preparing.record import VERSION, PreparedFolder, PreparedRecord, RowCounts
from reranker_batch.preparing.stages import Made, OnProgress, Stages, finish, ignore, numbered, total
from reranker_batch.preparing.table.adapter import RowPlaces, adapt
from reranker_batch.preparing.table.source import Source, pairs_source
from reranker_batch.preparing.work import Work, file_name, part_name
from reranker_batch.storage.files.bucketed import STAGING, new_bucket_file
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.prepared import publish_table
from reranker_batch.storage.tables.pieces import PIECE_BYTES, Piece
from reranker_batch.storage.tables.reading import read_piece
from reranker_batch.storage.values import conform_table

ROWS = b"rows"
_PASS_BYTES = 16 << 20
_GROUP_ROWS = 8_192
_GROUP_BYTES = 4 << 20
Layout = Literal["nested", "pairs"]


def prepare_rows(
    config: PrepareConfig, given: InputConfig | None, goal: str, each: Mapper, on_progress: OnProgress = ignore
) -> PreparedRecord:
    """Write prepared input to `goal`, or finish what was begun there; what is complete is left as it is.

    A row is a query. Where rows of a query differ in its text, all rows stay rows, so that the odd ones become dead
    letters when they are read. The caller holds the lock of the folder.

    Raises:
        ConfigError: The folder was prepared from other files or settings, or holds other files.
        InputError: The table cannot be used.
        CommitError: Something cannot be written.
    """
    source = pairs_source(input_of(config, given))

    def make(stages: Stages) -> Made:
        return _make(stages, config, source)

    return finish(PreparedFolder(Folder.at(goal)), rows_record(config, source), make, each, on_progress)


def rows_record(config: PrepareConfig, source: Source) -> PreparedRecord:
    """What is to be prepared from rows, and how it is cut."""
    settings = {
        "piece_bytes": PIECE_BYTES,
        "depth": config.depth,
        "drop_identical_ids": config.drop_identical_ids,
        "form": source.files.form,
        "has_header": source.files.has_header,
        **plain_settings(asdict(source.adaption)),
    }
    return PreparedRecord(VERSION, "rows", settings, {"run": source.files.identity()}, RANGE_BYTES, 1)


def input_of(config: PrepareConfig, given: InputConfig | None) -> InputConfig:
    """The run as an input, its columns as `input.columns` and `prepare.run` say."""
    run = config.run
    assert run.path is not None
    named = {key: value for key in ("query_id", "doc_id") if (value := getattr(run, key)) is not None}
    source = InputConfig(path=run.path) if given is None else given.model_copy(update={"path": run.path})
    return source.model_copy(update={"columns": source.columns.model_copy(update=named)})


def _make(stages: Stages, config: PrepareConfig, source: Source) -> Made:
    run = numbered(source.files)
    read = ReadRows(stages.work, source)
    stages.do("run", read, {number: (number, run[number]) for number in run})
    stages = split_in_ranges(stages, len(run), _keys)
    work = stages.work
    order = OrderRows(work, len(run), config.depth, config.drop_identical_ids)
    stages.do("order", order, {number: number for number in range(work.num_ranges)})
    facts = stages.facts("order", work.num_ranges)
    layout: Layout = "pairs" if total(facts, "differing") else "nested"
    stages.do_parts(AssembleRows(work, len(run), layout, source.adaption.document_name))
    counts = {name: total(facts, name) for name in ("candidates", "identical", "queries", "cut_by_depth")}
    return Made(RowCounts(rows=total(stages.facts("run", len(run)), "rows"), **counts), work.num_ranges)


@dataclass(frozen=True)
class ReadRows:
    """Rows of a piece."""

    work: Work
    source: Source

    def __call__(self, item: tuple[int, Piece]) -> int:
        number, piece = item
        tables = ((table, table.nbytes) for table in self._tables(piece))
        return gather_rows(self.work, number, tables, _keys, self._documents)

    def _tables(self, piece: Piece) -> Iterator[pa.Table]:
        source, adaption = self.source, self.source.adaption
        for raw in read_piece(source.files, piece, adaption.wanted, adaption.ids):
            yield adapt(raw.table, adaption, RowPlaces(raw.file, raw.numbers))

    def _documents(self, table: pa.Table) -> pa.ChunkedArray:
        is_named = "doc_id" in table.column_names
        return pc.fill_null(table["doc_id" if is_named else self.source.adaption.document_name], "")


def _keys(table: pa.Table) -> pa.Array:
    """What rows are sorted by: the id of the query, and after all ids its text where it has none."""
    texts = _marked("1", pc.fill_null(table["query"], ""))
    if "query_id" not in table.column_names:
        return texts.combine_chunks()
    return pc.coalesce(_marked("0", table["query_id"]), texts).combine_chunks()


def _marked(mark: str, texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts after a mark; nulls stay."""
    return pc.binary_join_element_wise(pa.scalar(mark, texts.type), texts, pa.scalar("", texts.type))


@dataclass(frozen=True)
class OrderRows:
    """Where the rows of a bucket go: by query id, those without one by text, those of a query as they were."""

    work: Work
    num_pieces: int
    depth: int | None
    drop_identical: bool

    def __call__(self, bucket: int) -> int:
        keys = self._read(bucket)
        order, begins = _sorted(keys)
        keys = keys.take(pa.array(order)).combine_chunks()
        is_kept = np.ones(len(keys), dtype=np.bool_)
        if self.drop_identical and {"query_id", "doc_id"} <= {*keys.column_names}:
            is_kept = ~pc.fill_null(pc.equal(keys["query_id"], keys["doc_id"]), False).to_numpy()
        queries = np.cumsum(begins) - 1
        place = _places(queries, is_kept)
        is_cut = is_kept & (place >= self.depth) if self.depth is not None else np.zeros(len(keys), dtype=np.bool_)
        is_kept &= ~is_cut
        rows = keys.select(["table", "row"]).append_column("query", pa.array(queries)).filter(pa.array(is_kept))
        with new_bucket_file(self.work.folder, file_name("order", bucket)) as file:
            file.write(0, rows)
            file.facts.update(
                rows=len(keys),
                candidates=len(rows),
                identical=len(keys) - len(rows) - int(is_cut.sum()),
                cut_by_depth=int(is_cut.sum()),
                queries=len(rows["query"].unique()),
                differing=int(_differs(keys["query"], queries, begins)),
            )
        return len(keys)

    def _read(self, bucket: int) -> pa.Table:
        """The ids and query texts of all rows, and where each row is."""
        keys = []
        for number, table in enumerate(StoredRows(row_files(self.work, self.num_pieces), bucket).scan()):
            names = [name for name in ("query_id", "query", "doc_id") if name in table.column_names]
            place = pa.array(np.full(len(table), number, np.int32)), pa.array(np.arange(len(table), dtype=np.int64))
            own = table.select(names).append_column("table", place[0]).append_column("row", place[1])
            keys.append(own)
        if not keys:
            return pa.table({"query": pa.array([], pa.large_string()), "table": pa.array([], pa.int32()), "row": []})
        return pa.concat_tables(keys, promote_options="permissive")


def _sorted(keys: pa.Table) -> tuple[LongArray, BoolArray]:
    """The order of the rows, and which of them in that order begin a query."""
    texts = pc.fill_null(keys["query"], "")
    ids = keys["query_id"] if "query_id" in keys.column_names else pa.chunked_array([pa.nulls(len(keys), texts.type)])
    columns = {"is_null": ids.is_null(), "id": pc.fill_null(ids, ""), "text": pc.if_else(ids.is_null(), texts, "")}
    ranks = [_ranks(columns[name]) for name in ("text", "id", "is_null")]
    order = np.lexsort(ranks)
    begins = np.zeros(len(order), dtype=np.bool_)
    begins[:1] = True
    for values in ranks:
        ordered = values[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    return order.astype(np.int64), begins


def _ranks(column: pa.ChunkedArray) -> LongArray:
    """Values as numbers in the order of the values."""
    if pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(), dtype=np.int64)
    distinct = DistinctTexts.of(column)
    ranks = np.empty(len(distinct.texts), dtype=np.int64)
    ranks[pc.sort_indices(distinct.texts).to_numpy()] = np.arange(len(ranks))
    return np.asarray(ranks[distinct.at], dtype=np.int64)


def _places(queries: LongArray, is_kept: BoolArray) -> LongArray:
    """How many rows of the same query that are kept stand before each row."""
    before = np.concatenate([[0], np.cumsum(is_kept)[:-1]]) if len(is_kept) else np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    return np.asarray(before - np.repeat(before[starts], np.diff([*starts, len(queries)])), dtype=np.int64)


def _differs(texts: pa.ChunkedArray, queries: LongArray, begins: BoolArray) -> bool:
    """Whether rows of one query have different texts, or one has a text and another none."""
    is_null = texts.is_null().to_numpy()
    codes = DistinctTexts.of(pc.fill_null(texts, "")).at
    firsts = np.flatnonzero(begins)[queries]
    return bool(((codes != codes[firsts]) | (is_null != is_null[firsts])).any())


@dataclass(frozen=True)
class AssembleRows:
    """Write the part of a bucket of queries."""

    work: Work
    num_pieces: int
    layout: Layout
    document_name: str

    def __call__(self, bucket: int) -> int:
        work = self.work
        stored = StoredRows(row_files(work, self.num_pieces), bucket)
        size_bytes, num_rows, schema = 0, 0, None
        for table in stored.scan():
            size_bytes, num_rows = size_bytes + table.nbytes, num_rows + len(table)
            known: list[pa.Table] = [] if schema is None else [schema.empty_table()]
            both = unified_schema([*known, table])
            if both is None:
                raise _of_several_types([*known, table])
            schema = both
        schema = _rows_schema(self.document_name) if schema is None else schema
        order = pa.concat_tables(work.open("order", bucket).tables(0)).combine_chunks()
        groups = self._groups(stored, order, schema, max(1, size_bytes // max(1, num_rows)))
        goal = schema if self.layout == "pairs" else _nested_schema(schema)
        staging = work.folder.folder(STAGING)
        return publish_table(work.goal, staging, part_name(bucket), goal, groups, kind=ROWS)

    def _groups(self, stored: StoredRows, order: pa.Table, schema: pa.Schema, row_bytes: int) -> Iterator[pa.Table]:
        """At least one, which may be empty."""
        queries, tables, rows = (order[name].to_numpy().astype(np.int64) for name in ("query", "table", "row"))
        group_rows = max(1, min(_GROUP_ROWS, _GROUP_BYTES // row_bytes))
        if not len(order):
            empty = schema.empty_table()
            yield empty if self.layout == "pairs" else _nested(empty, queries)
        for start, stop in _cuts(queries, max(1, _PASS_BYTES // row_bytes)):
            rows_of_queries = stored.take(tables[start:stop], rows[start:stop])
            assert rows_of_queries is not None
            whole = conform_table(_complete(rows_of_queries, schema), schema)
            for first, last in _cuts(queries[start:stop], group_rows):
                group = whole.slice(first, last - first)
                yield group if self.layout == "pairs" else _nested(group, queries[start + first : start + last])


def _of_several_types(tables: Sequence[pa.Table]) -> InputError:
    """That a column of tables has no type in common."""
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns = ((name, [table.select([name]) for table in tables if name in table.column_names]) for name in names)
    name = next(name for name, tables in columns if unified_schema(tables) is None)
    return InputError(
        f"prepare.run: the column {name!r} has values of several types. Write it with one type, or leave it out of "
        "input.columns.passthrough."
    )


def _cuts(queries: LongArray, limit: int) -> Iterator[tuple[int, int]]:
    """Runs of about `limit` rows that part no query."""
    starts = np.flatnonzero(np.diff(queries, prepend=-1))
    bounds = [*starts[np.diff(starts // limit, prepend=-1) > 0].tolist(), len(queries)]
    yield from pairwise(bounds)


def _complete(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """All columns of the schema, null where the table has none."""
    names = {*table.column_names}
    return pa.table(
        {field.name: table[field.name] if field.name in names else pa.nulls(len(table), field.type) for field in schema}
    )


def _nested(rows: pa.Table, queries: LongArray) -> pa.Table:
    """A row for each query."""
    rows = rows.combine_chunks()
    starts = np.flatnonzero(np.diff(queries, prepend=-1)).astype(np.int64)
    top = [name for name in ("query_id", "query") if name in rows.column_names]
    inner = [field for field in rows.schema if field.name not in top]
    columns = [rows[field.name].chunk(0) if len(rows) else pa.array([], field.type) for field in inner]
    structs = pa.StructArray.from_arrays(columns, fields=inner)
    lists = pa.LargeListArray.from_arrays(pa.array([*starts, len(rows)], pa.int64()), structs)
    firsts = rows.select(top).take(pa.array(starts))
    return firsts.append_column("candidates", lists)


def _nested_schema(schema: pa.Schema) -> pa.Schema:
    top = [field for field in schema if field.name in ("query_id", "query")]
    inner = pa.struct([field for field in schema if field.name not in ("query_id", "query")])
    by_name = {field.name: field for field in top}
    ordered = [by_name[name] for name in ("query_id", "query") if name in by_name]
    return pa.schema([*ordered, pa.field("candidates", pa.large_list(inner))])


def _rows_schema(document_name: str) -> pa.Schema:
    """Of a bucket without rows."""
    return pa.schema([("query", pa.large_string()), (document_name, pa.large_string())])
