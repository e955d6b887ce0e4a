"""The kept candidates of an output, query by query, whatever its layout."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.errors import CommitError
from reranker_batch.schema import canonical_type
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.parts import SCORES
from reranker_batch.storage.values import list_lengths, list_values, one_chunk

_PARTS_AHEAD = 4

RANKED_LISTS = pa.schema(
    [
        pa.field("query_id", pa.large_string()),
        pa.field("doc_id", pa.large_list(pa.large_string())),
        pa.field("index", pa.large_list(pa.int32())),
        pa.field("logit", pa.large_list(pa.float32())),
    ]
)
"""A row per query; the lists hold its kept candidates, best first."""


def list_parts(output: Folder) -> list[pafs.FileInfo]:
    """The parts in `scores/`, by name.

    Raises:
        CommitError: There is no such folder, or it cannot be listed.
    """
    folder = output.child(SCORES)
    try:
        infos = retried(lambda: output.filesystem.get_file_info(pafs.FileSelector(folder)), f"Listing {folder}")
    except OSError as error:
        raise CommitError(f"{folder} cannot be listed: {error}. Name the folder of a finished output.") from error
    parts = [info for info in infos if info.base_name.startswith("part-") and info.extension == "parquet"]
    return sorted(parts, key=lambda info: info.base_name)


def read_ranked_lists(output: Folder, *, columns: Sequence[str] = ("doc_id", "logit")) -> Iterator[pa.Table]:
    """Yield the queries of an output in the order of its parts; a few parts are read ahead.

    The tables have `query_id` and those of `columns`, in the types of `RANKED_LISTS`. Queries without kept candidates
    are left out, because the layout `pairs` has no row for them.

    Raises:
        CommitError: A part cannot be read or is damaged.
    """
    parts = deque[Future[list[pa.Table]]]()
    with ThreadPoolExecutor(_PARTS_AHEAD) as threads:
        for info in list_parts(output):
            parts.append(threads.submit(read_part_lists, output, info.path, columns))
            if len(parts) > _PARTS_AHEAD:
                yield from parts.popleft().result()
        while parts:
            yield from parts.popleft().result()


def ranked_lists_of(query_ids: pa.Array, lengths: LongArray, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Lists of `lengths` over flat columns in the types of `RANKED_LISTS`, without the queries that have none."""
    has_any = lengths > 0
    offsets = pa.array(offsets_of(lengths[has_any]))
    lists = {
        name: pa.LargeListArray.from_arrays(offsets, values, type=RANKED_LISTS.field(name).type)
        for name, values in columns.items()
    }
    return pa.table({"query_id": query_ids.filter(pa.array(has_any)), **lists})


def column_of(lists: pa.Table, name: str) -> pa.Array:
    """A column in one piece, in its type of `RANKED_LISTS`."""
    return one_chunk(lists[name].chunks, RANKED_LISTS.field(name).type)


def read_part_lists(output: Folder, path: str, columns: Sequence[str]) -> list[pa.Table]:
    """The queries of one part, as `read_ranked_lists` has them. Raises CommitError when it cannot be read."""
    with open_part(output, path) as file:
        if is_nested(file):
            return list(_of_nested(read_row_groups(file, path, _nested_paths(file, columns)), columns))
        groups = whole_queries(read_row_groups(file, path, ["query_id", "rank", *columns]), path)
        return [_lists_of_pairs(rows, starts, columns) for rows, starts in groups]


def read_results(output: Folder) -> Iterator[pa.Table]:
    """Yield all columns of an output, a row per query as in the layout `nested`, in the order of its parts.

    An output in the layout `pairs` has all its columns but `query_id` in the structs of `results`, and no row for a
    query without kept candidates. A table is at most as large as a row group and the query that goes on from it.

    Raises:
        CommitError: A part cannot be read or is damaged.
    """
    for info in list_parts(output):
        with open_part(output, info.path) as file:
            tables = read_row_groups(file, info.path, None)
            if is_nested(file):
                yield from tables
            else:
                yield from (_results_of_pairs(*whole) for whole in whole_queries(tables, info.path))


@contextmanager
def open_part(output: Folder, path: str) -> Iterator[pq.ParquetFile]:
    """A part whose page checksums are compared. Raises CommitError when it cannot be read, then or later."""
    try:
        source = retried(lambda: output.filesystem.open_input_file(path), f"Opening {path}")
        with (
            source,
            retried(lambda: pq.ParquetFile(source, page_checksum_verification=True), f"Reading {path}") as file,
        ):
            yield file
    except (OSError, pa.ArrowException, KeyError) as error:
        raise CommitError(f"{path} cannot be read: {error}") from error


def is_nested(file: pq.ParquetFile) -> bool:
    """Whether a row of this part is a query."""
    return "results" in file.schema_arrow.names


def read_row_groups(file: pq.ParquetFile, path: str, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """The row groups one after the other, with the columns of these names or all."""
    for group in range(file.num_row_groups):
        yield retried(partial(file.read_row_group, group, columns=columns), f"Reading {path}")


def _nested_paths(file: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    """Parquet's own names of fields of the structs in `results`."""
    wanted = [[name] for name in columns]
    paths = [file.schema.column(at).path for at in range(len(file.schema.names))]
    return ["query_id", *(path for path in paths if path.startswith("results.") and path.split(".")[3:] in wanted)]


def _of_nested(tables: Iterable[pa.Table], columns: Sequence[str]) -> Iterator[pa.Table]:
    for table in tables:
        results = one_chunk(table["results"].chunks, canonical_type(table["results"].type))
        structs = list_values(results)
        flat = {name: pc.struct_field(structs, name) for name in columns}
        yield ranked_lists_of(column_of(table, "query_id"), list_lengths(results), flat)


def whole_queries(tables: Iterable[pa.Table], path: str) -> Iterator[tuple[pa.Table, LongArray]]:
    """Rows of the layout `pairs` without a query that is cut, and where in them each query begins.

    A query may go on from one row group into the next: its rows wait for the rest.
    """
    waiting: list[pa.Table] = []
    for table in tables:
        starts = np.flatnonzero(table["rank"].to_numpy() == 1)
        if not len(starts):
            waiting.append(table)
            continue
        yield from _with_starts([*waiting, table.slice(0, starts[0])], path)
        yield from _with_starts([table.slice(starts[0], starts[-1] - starts[0])], path)
        waiting = [table.slice(starts[-1])]
    yield from _with_starts(waiting, path)


def _with_starts(tables: list[pa.Table], path: str) -> Iterator[tuple[pa.Table, LongArray]]:
    rows = pa.concat_tables(tables) if tables else None
    if not rows:
        return
    starts = np.flatnonzero(rows["rank"].to_numpy() == 1)
    if not len(starts) or starts[0]:
        raise CommitError(f"{path} is damaged: its first row has rank {rows['rank'][0]}, not 1.")
    yield rows, starts


def _lists_of_pairs(rows: pa.Table, starts: LongArray, columns: Sequence[str]) -> pa.Table:
    flat = {name: one_chunk(rows[name].chunks, RANKED_LISTS.field(name).type.value_type) for name in columns}
    lengths = np.diff(np.append(starts, len(rows)))
    return ranked_lists_of(column_of(rows, "query_id").take(pa.array(starts)), lengths, flat)


def _results_of_pairs(rows: pa.Table, starts: LongArray) -> pa.Table:
    structs = rows.drop_columns(["query_id"]).to_struct_array().combine_chunks()
    offsets = pa.array(np.append(starts, len(rows)))
    query_ids = rows["query_id"].take(pa.array(starts))
    return pa.table({"query_id": query_ids, "results": pa.LargeListArray.from_arrays(offsets, structs)})
