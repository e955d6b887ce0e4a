"""Relevance judgments (qrels) from a TREC file, a table with tabs or a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reranker_batch.errors import InputError
from reranker_batch.schema import is_string_like
from reranker_batch.storage.files.filesystem import resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.footers import MAGIC, first_line
from reranker_batch.storage.values import id_strings, one_chunk

QRELS = pa.schema(
    [
        pa.field("query_id", pa.large_string()),
        pa.field("doc_id", pa.large_string()),
        pa.field("relevance", pa.int64()),
    ]
)

_BEIR_NAMES = {"query-id": "query_id", "corpus-id": "doc_id", "score": "relevance"}


def read_qrels(path_or_uri: str) -> pa.Table:
    """Read judgments as rows of `QRELS`, each (query, document) once.

    A file that begins like Parquet has the columns `query_id`, `doc_id` and `relevance`, or BEIR's `query-id`,
    `corpus-id` and `score`. A text file has these names in its first line, with tabs between them, or else TREC's four
    columns: query, iteration, document and relevance, between spaces or tabs. It may be compressed as its suffix says
    (`.gz`, `.zst`). Ids become strings as those of the input do.

    Raises:
        InputError: The file cannot be read, is in no such format, or judges a pair in two ways.
        ConfigError: See `resolve`.
    """
    filesystem, path = resolve(path_or_uri)

    def read() -> bytes:
        with filesystem.open_input_stream(path) as source:
            content: bytes = source.read()
            return content

    try:
        content = retried(read, f"Reading {path}")
        table = _of_parquet(content, path) if content.startswith(MAGIC) else _of_text(content, path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"The qrels {path_or_uri} cannot be read: {first_line(error)}.") from error
    if not len(table):
        raise InputError(f"The qrels {path_or_uri} hold no judgment.")
    return _distinct(table, path)


def _of_text(content: bytes, path: str) -> pa.Table:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"The qrels {path} are neither Parquet nor UTF-8 text: {error}.") from None
    names = [_BEIR_NAMES.get(name, name) for name in text.partition("\n")[0].rstrip("\r").split("\t")]
    rows = list(_named_rows(text, names, path) if set(QRELS.names) <= set(names) else _trec_rows(text, path))
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, QRELS, strict=True)], schema=QRELS)


def _named_rows(text: str, names: list[str], path: str) -> Iterator[tuple[str, str, int]]:
    query, document, relevance = (names.index(name) for name in QRELS.names)
    for number, line in enumerate(text.split("\n")[1:], start=2):
        values = line.rstrip("\r").split("\t")
        if values == [""]:
            continue
        try:
            yield values[query], values[document], int(values[relevance])
        except (IndexError, ValueError):
            raise InputError(
                f"Line {number} of the qrels {path} is {line[:80]!r}. The columns of its first line are expected, with "
                "tabs between them and a whole number as relevance."
            ) from None


def _trec_rows(text: str, path: str) -> Iterator[tuple[str, str, int]]:
    for number, line in enumerate(text.split("\n"), start=1):
        values = line.split()
        if not values:
            continue
        try:
            query_id, _, doc_id, relevance = values
            yield query_id, doc_id, int(relevance)
        except ValueError:
            raise InputError(
                f"Line {number} of the qrels {path} is {line[:80]!r}. Four columns are expected: query id, iteration, "
                "document id and a whole number; or query_id, doc_id and relevance, named in the first line, with tabs."
            ) from None


def _of_parquet(content: bytes, path: str) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(content))
    names = {_BEIR_NAMES.get(name, name): name for name in file.schema_arrow.names}
    if missing := [name for name in QRELS.names if name not in names]:
        raise InputError(
            f"The qrels {path} have no column {missing[0]}; found: {', '.join(file.schema_arrow.names)}. "
            f"Name the columns {', '.join(QRELS.names)}."
        )
    table = file.read(columns=[names[name] for name in QRELS.names])
    columns = {name: table[names[name]] for name in QRELS.names}
    for name, column in columns.items():
        if column.null_count:
            raise InputError(f"{column.null_count} values of column {name} of the qrels {path} are null.")
    ids = [_ids(columns[name]) for name in ("query_id", "doc_id")]
    if is_string_like(columns["relevance"].type):
        raise InputError(f"Column relevance of the qrels {path} is text. Whole numbers are expected.")
    return pa.table([*ids, columns["relevance"].cast(pa.int64())], schema=QRELS)


def _ids(column: pa.ChunkedArray) -> pa.Array:
    return one_chunk([id_strings(one_chunk(column.chunks, column.type))], pa.large_string())


def _distinct(table: pa.Table, path: str) -> pa.Table:
    """Each judgment once."""
    once = table.group_by(QRELS.names, use_threads=False).aggregate([])
    pairs = once.group_by(["query_id", "doc_id"], use_threads=False).aggregate([([], "count_all")])
    twice = pairs.filter(pc.greater(pairs["count_all"], 1))
    if len(twice):
        query_id, doc_id = twice["query_id"][0], twice["doc_id"][0]
        raise InputError(f"The qrels {path} give document {doc_id} of query {query_id} two relevances. Keep one.")
    return once.select(QRELS.names)
