"""The kept candidates of an output, query by query, whatever its layout."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from reranker_batch.core.ragged import LongArray, offsets_of
from reranker_batch.errors import CommitError
from reranker_batch.schema import canonical_type
from reranker_batch.storage.filesystem import Folder
from reranker_batch.storage.output.parts import SCORES
from reranker_batch.storage.retrying import retried
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
    try:
        source = retried(lambda: output.filesystem.open_input_file(path), f"Opening {path}")
        with (
            source,
            retried(lambda: pq.ParquetFile(source, page_checksum_verification=True), f"Reading {path}") as file,
        ):
            return list(_read_file(file, path, columns))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise CommitError(f"{path} cannot be read: {error}") from error


def _read_file(file: pq.ParquetFile, path: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    is_nested = "results" in file.schema_arrow.names
    wanted = _nested_paths(file, columns) if is_nested else ["query_id", "rank", *columns]
    tables = (
        retried(partial(file.read_row_group, group, columns=wanted), f"Reading {path}")
        for group in range(file.num_row_groups)
    )
    return _of_nested(tables, columns) if is_nested else _of_pairs(tables, columns, path)


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


def _of_pairs(tables: Iterable[pa.Table], columns: Sequence[str], path: str) -> Iterator[pa.Table]:
    """A query may go on from one row group into the next: its rows wait for the rest."""
    waiting: list[pa.Table] = []
    for table in tables:
        starts = np.flatnonzero(table["rank"].to_numpy() == 1)
        if not len(starts):
            waiting.append(table)
            continue
        yield from _whole_queries([*waiting, table.slice(0, starts[0])], columns, path)
        yield from _whole_queries([table.slice(starts[0], starts[-1] - starts[0])], columns, path)
        waiting = [table.slice(starts[-1])]
    yield from _whole_queries(waiting, columns, path)


def _whole_queries(tables: list[pa.Table], columns: Sequence[str], path: str) -> Iterator[pa.Table]:
    rows = pa.concat_tables(tables) if tables else None
    if not rows:
        return
    starts = np.flatnonzero(rows["rank"].to_numpy() == 1)
    if not len(starts) or starts[0]:
        raise CommitError(f"{path} is damaged: its first row has rank {rows['rank'][0]}, not 1.")
    lengths = np.diff(np.append(starts, len(rows)))
    flat = {name: one_chunk(rows[name].chunks, RANKED_LISTS.field(name).type.value_type) for name in columns}
    yield ranked_lists_of(column_of(rows, "query_id").take(pa.array(starts)), lengths, flat)
