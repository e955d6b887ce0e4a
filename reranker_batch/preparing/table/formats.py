"""The formats that search and training tools write, as column maps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import pyarrow as pa

from reranker_batch.config import ColumnsConfig
from reranker_batch.config.columns import Column
from reranker_batch.preparing.table.adaption import find, type_at
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.columns import candidate_struct, is_text

Columns = Column | tuple[Column, ...]
Kind = Literal["structs", "texts", "text", "any"]

_DOCUMENTS: tuple[Columns, ...] = (("title", "text"), ("title", "contents"), "text", "contents", "passage", "body")
_RANKLLM: tuple[Columns, ...] = (
    "doc.contents",
    ("doc.title", "doc.text"),
    ("doc.title", "doc.segment"),
    ("doc.title", "doc.body"),
    *("doc.text", "doc.segment", "doc.passage", "doc.body", "doc.content", "doc"),
)
_ANCHORS = ("anchor", "query", "question", "sentence1")
_LABELS = ("label", "labels", "score", "scores")


@dataclass(frozen=True)
class Format:
    """Where a format has its columns; of several the first that is there counts. `*` stands for a number."""

    title: str
    layout: Literal["nested", "pairs"]
    query: tuple[Column, ...]
    query_id: tuple[Column, ...] = ()
    candidates: tuple[Columns, ...] = ()
    kind: Kind = "any"
    """What the columns of candidates hold."""
    doc_id: tuple[Column, ...] = ()
    document: tuple[Columns, ...] = ()
    marks: tuple[str, ...] = ()
    """One of these columns is there too; it is not read."""
    num_columns: int = 0
    """Of a file without a header."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "msmarco-top1000": Format(
            "MS MARCO top 1000: query id, passage id, query and passage, without a header",
            "pairs",
            query=(2,),
            query_id=(0,),
            doc_id=(1,),
            document=(3,),
            num_columns=4,
        ),
        "tevatron": Format(
            "Tevatron: passages with docid, title and text in two lists",
            "nested",
            query=("query",),
            query_id=("query_id",),
            candidates=(("positive_passages", "negative_passages"), ("positive_passages",), ("negative_passages",)),
            kind="structs",
            doc_id=("docid", "doc_id"),
            document=_DOCUMENTS,
        ),
        "rankllm": Format(
            "RankLLM: query with text and qid, candidates with docid and doc",
            "nested",
            query=("query.text", "query"),
            query_id=("query.qid", "qid"),
            candidates=("candidates",),
            kind="structs",
            doc_id=("docid", "doc_id"),
            document=_RANKLLM,
        ),
        "flagembedding": Format(
            "FlagEmbedding: texts in pos and neg",
            "nested",
            query=("query",),
            query_id=("query_id", "qid", "id"),
            candidates=(("pos", "neg"),),
            kind="texts",
        ),
        "mteb-old": Format(
            "MTEB reranking, older form: texts in positive and negative",
            "nested",
            query=("query",),
            query_id=("query_id", "id"),
            candidates=(("positive", "negative"), ("positive", "negatives"), ("positives", "negatives")),
            kind="texts",
        ),
        "triplets": Format(
            "Triplets of sentence-transformers: anchor, positive, negative",
            "nested",
            query=_ANCHORS,
            candidates=(("positive", "negative"),),
            kind="text",
        ),
        "n-tuples": Format(
            "N-tuples of sentence-transformers: anchor, positive, negative_1, …",
            "nested",
            query=_ANCHORS,
            candidates=(("positive", "negative_*"),),
            kind="text",
        ),
        "labelled-lists": Format(
            "Labelled lists of sentence-transformers: anchor, docs, labels",
            "nested",
            query=_ANCHORS,
            candidates=("docs", "documents", "passages", "positive", "answer"),
            kind="texts",
            marks=_LABELS,
        ),
        "labelled-pairs": Format(
            "Labelled pairs of sentence-transformers: anchor, a text and a label",
            "pairs",
            query=_ANCHORS,
            document=("positive", "passage", "document", "answer", "text", "sentence2"),
            marks=_LABELS,
        ),
        "cross-encoder": Format(
            "Samples of a CrossEncoder evaluator: query, positive, and negative or documents",
            "nested",
            query=("query",),
            candidates=("documents", ("positive", "negative")),
            kind="texts",
            marks=("positive",),
        ),
        "parallel-lists": Format(
            "Texts and ids in two lists: candidate_docs, candidate_ids",
            "nested",
            query=("query",),
            query_id=("_id", "query_id", "qid", "id"),
            candidates=("candidate_docs", "candidate_texts"),
            kind="texts",
            doc_id=("candidate_ids",),
        ),
    }
)
"""By the names that `input.format` takes. Folders with files of their own for queries and documents are prepared."""


def likely_ids(asked: ColumnsConfig) -> list[str]:
    """Dotted paths that may be ids: those that are asked for, and those of all formats."""
    maps = [*FORMATS.values(), Format("", "nested", (), **_asked_ids(asked))]
    paths: set[str] = set()
    for each in maps:
        lists = [one for group in each.candidates for one in (group if isinstance(group, tuple) else (group,))]
        paths |= {str(one) for one in (*each.query_id, *each.doc_id)}
        paths |= {f"{one}.{doc_id}" for one in lists for doc_id in each.doc_id}
    return sorted(paths)


def columns_of(named: Format) -> Iterator[Column]:
    """All columns that a format may have, but for fields of its candidates."""
    groups = (*named.candidates, *(named.document if named.layout == "pairs" else ()))
    for group in (*named.query, *named.query_id, *groups):
        yield from group if isinstance(group, tuple) else (group,)
    if named.layout == "pairs" or named.kind != "structs":
        yield from named.doc_id


def _asked_ids(asked: ColumnsConfig) -> dict[str, Any]:
    lists = asked.candidates if isinstance(asked.candidates, list) else [asked.candidates]
    one_each = {"query_id": asked.query_id, "doc_id": asked.doc_id}
    ids = {key: () if column is None else (column,) for key, column in one_each.items()}
    return {**ids, "candidates": tuple(lists)}


@dataclass(frozen=True)
class ColumnMap:
    """A layout and its columns."""

    layout: Literal["nested", "pairs"]
    columns: ColumnsConfig


def map_of(named: Format, schema: pa.Schema, asked: ColumnsConfig) -> ColumnMap | None:
    """The columns of a format as they are among those that were seen; None where one that it needs is not there.

    What `asked` sets itself, so that it is not the default, counts before the format.
    """
    columns = _candidate_columns(named, schema) if named.layout == "nested" else _pair_columns(named, schema)
    query = _first(schema, named.query)
    if columns is None or query is None or not is_text(type_at(schema, find(schema, query) or ())):
        return None
    if named.marks and not any(find(schema, mark) for mark in named.marks):
        return None
    columns |= {"query": query, "query_id": _first(schema, named.query_id)}
    default = ColumnsConfig().model_dump()
    set_here = {key: value for key, value in asked.model_dump().items() if value != default[key]}
    return ColumnMap(named.layout, ColumnsConfig.model_validate({**columns, **set_here}))


def fitting(schema: pa.Schema, asked: ColumnsConfig) -> dict[str, ColumnMap]:
    """The formats that fit the columns that were seen, those that mean the same columns once."""
    maps: dict[str, ColumnMap] = {}
    for name, named in FORMATS.items():
        mapped = map_of(named, schema, asked)
        if mapped is not None and mapped not in maps.values():
            maps[name] = mapped
    return maps


def _pair_columns(named: Format, schema: pa.Schema) -> dict[str, object] | None:
    if named.num_columns and len(schema) != named.num_columns:
        return None
    document = _first_group(schema, named.document)
    if document is None or not all(is_text(type_at(schema, find(schema, one) or ())) for one in document):
        return None
    return {"document": _plain(document), "doc_id": _first(schema, named.doc_id)}


def _candidate_columns(named: Format, schema: pa.Schema) -> dict[str, object] | None:
    group = _first_group(schema, named.candidates)
    if group is None or not _are_kind([type_at(schema, find(schema, one) or ()) for one in group], named.kind):
        return None
    is_one = len(group) == 1 and group[0] in named.candidates
    columns: dict[str, object] = {"candidates": group[0] if is_one else list(group)}
    if named.kind != "structs":
        return columns | {"doc_id": _first(schema, named.doc_id)}
    fields = _fields(schema, group)
    document = _first_group(fields, named.document)
    if document is None:
        return None
    return columns | {"document": _plain(document), "doc_id": _first(fields, named.doc_id)}


def _fields(schema: pa.Schema, group: tuple[Column, ...]) -> pa.Schema:
    fields: dict[str, pa.Field] = {}
    for one in group:
        for each in candidate_struct(type_at(schema, find(schema, one) or ())) or ():
            fields.setdefault(each.name, each)
    return pa.schema(list(fields.values()))


def _are_kind(types: Sequence[pa.DataType], kind: Kind) -> bool:
    """Whether these columns hold candidates; next to a list of texts another column may be one text."""
    others = [each for each in types if not _is_kind(each, kind)]
    return not others or (kind == "texts" and len(others) < len(types) and all(map(is_text, others)))


def _is_kind(data_type: pa.DataType, kind: Kind) -> bool:
    if kind == "text":
        return is_text(data_type)
    if pa.types.is_null(data_type):
        return True
    if not is_list_like(data_type):
        return False
    item = data_type.value_type
    return pa.types.is_null(item) or (kind == "structs") == bool(pa.types.is_struct(item))


def _plain(group: tuple[Column, ...]) -> Column | list[Column]:
    return group[0] if len(group) == 1 else list(group)


def _first(schema: pa.Schema, columns: tuple[Column, ...]) -> Column | None:
    return next((column for column in columns if find(schema, column) is not None), None)


def _first_group(schema: pa.Schema, groups: tuple[Columns, ...]) -> tuple[Column, ...] | None:
    """The first columns of which all are there, wildcards as the columns that they stand for."""
    for group in groups:
        expanded = [tuple(_expanded(schema, one)) for one in (group if isinstance(group, tuple) else (group,))]
        if all(expanded) and all(find(schema, one) for each in expanded for one in each):
            return tuple(one for each in expanded for one in each)
    return None


def _expanded(schema: pa.Schema, column: Column) -> Iterator[Column]:
    if not isinstance(column, str) or "*" not in column:
        yield column
        return
    pattern = re.compile(re.escape(column).replace(r"\*", r"([0-9]+)"))
    numbered = [(int(match[1]), name) for name in schema.names if (match := pattern.fullmatch(name))]
    yield from (name for _, name in sorted(numbered))
