"""Which columns may be meant: guesses from names and types, for messages and for a config that is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import yaml

from reranker_batch.config import ColumnsConfig
from reranker_batch.errors import InputError
from reranker_batch.preparing.table.adaption import Resolver
from reranker_batch.preparing.table.formats import FORMATS, ColumnMap, fitting
from reranker_batch.schema import is_list_like
from reranker_batch.storage.input.columns import candidate_struct, id_family, is_text

_QUERIES = ("query", "querytext", "question", "questiontext", "anchor", "searchquery", "topic", "sentence1", "q")
_TITLES = ("title", "headline", "heading")
_TEXTS: tuple[str, ...] = (
    "text",
    "contents",
    "content",
    "passage",
    "passagetext",
    "document",
    "documenttext",
    "doc",
    "body",
)
_TEXTS += ("segment", "chunk", "chunktext", "abstract", "answer", "positive", "sentence2", "product")
_QUERY_IDS = ("queryid", "qid", "qno", "questionid", "topicid", "searchid", "id")
_DOCUMENT_IDS: tuple[str, ...] = (
    "docno",
    "docid",
    "did",
    "documentid",
    "pid",
    "passageid",
    "corpusid",
    "candidateid",
    "itemid",
)
_DOCUMENT_IDS += ("chunkid", "productid", "id")
_LISTS: tuple[str, ...] = (
    "candidates",
    "documents",
    "docs",
    "passages",
    "texts",
    "hits",
    "results",
    "ctxs",
    "contexts",
    "positive",
    "positives",
)
_MOST = 3


@dataclass(frozen=True)
class Guess:
    """A layout and columns that may be meant, and why."""

    columns: ColumnMap
    why: str
    format: str | None = None

    def section(self) -> dict[str, Any]:
        """The keys of the section `input` that ask for it."""
        if self.format is not None:
            return {"format": self.format}
        default = ColumnsConfig().model_dump()
        columns = {key: value for key, value in self.columns.columns.model_dump().items() if value != default[key]}
        layout = {"layout": "pairs"} if self.columns.layout == "pairs" else {}
        return {**layout, **({"columns": columns} if columns else {})}

    def shown(self) -> str:
        """As YAML."""
        text: str = yaml.safe_dump(
            {"input": self.section()}, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=None
        )
        return f"# {self.why}\n{text}".rstrip()


def guesses(schema: pa.Schema, asked: ColumnsConfig, name: str) -> list[Guess]:
    """What may be meant, the most likely first: the formats that fit or else columns by their names."""
    likely = [Guess(each, FORMATS[format_].title, format_) for format_, each in fitting(schema, asked).items()]
    for each in (_nested(schema), _pairs(schema)) if not likely else ():
        if each is not None and _can_be(each, schema, name) and each not in [guess.columns for guess in likely]:
            what = "a row is a query with its candidates" if each.layout == "nested" else "a row is a query and a text"
            likely.append(Guess(each, f"by their names and types, {what}"))
    return likely[:_MOST]


def _can_be(each: ColumnMap, schema: pa.Schema, name: str) -> bool:
    try:
        Resolver(schema, each.columns, name).adaption(each.layout)
    except InputError:
        return False
    return True


def _nested(schema: pa.Schema) -> ColumnMap | None:
    lists = [each for each in schema if is_list_like(each.type)]
    query = _pick(_texts(schema), _QUERIES)
    query_id = _pick(_ids(schema), _QUERY_IDS)
    if query is not None and not lists:
        return _object_of_lists(schema, {"query": query, "query_id": query_id})
    column = next((each for each in lists if candidate_struct(each.type) is not None), None)
    column = column or next((each for each in lists if _plain(each.name) in _LISTS and _is_texts(each.type)), None)
    if query is None or column is None:
        return None
    columns: dict[str, Any] = {"query": query, "query_id": query_id, "candidates": column.name}
    struct = candidate_struct(column.type)
    if struct is None:
        return ColumnMap("nested", ColumnsConfig.model_validate({**columns, "doc_id": None}))
    document = _document(pa.schema([*struct]), ())
    if document is None:
        return None
    texts = {document} if isinstance(document, str) else set(document)
    alike = [each.name for each in lists if texts <= _field_names(each) or _is_empty_twin(each, column.name)]
    columns["candidates"] = alike if len(alike) > 1 else column.name
    columns |= {"document": document, "doc_id": _pick(_ids(pa.schema([*struct])), _DOCUMENT_IDS)}
    return ColumnMap("nested", ColumnsConfig.model_validate(columns))


def _object_of_lists(schema: pa.Schema, columns: dict[str, Any]) -> ColumnMap | None:
    """Candidates as `datasets` stores a sequence of objects: an object with a list for each of their fields."""
    lists = [
        (f"{each.name}.{inner.name}", inner.type.value_type)
        for each in schema
        if pa.types.is_struct(each.type)
        for inner in each.type
        if is_list_like(inner.type)
    ]
    texts = _pick([name for name, item in lists if is_text(item)], (*_TEXTS, *_LISTS))
    if texts is None:
        return None
    ids = _pick([name for name, item in lists if id_family(item) in ("string", "integer")], _DOCUMENT_IDS)
    return ColumnMap("nested", ColumnsConfig.model_validate({**columns, "candidates": texts, "doc_id": ids}))


def is_run(schema: pa.Schema) -> bool:
    """Whether rows seem to have ids of queries and of documents, and no column that is called like a query."""
    ids = [*_ids(schema), *(each.name for each in schema if is_list_like(each.type))]
    plain = {_plain(name).removesuffix("s") for name in ids}
    has_both = plain & {*_QUERY_IDS[:-1]} and plain & {*_DOCUMENT_IDS[:-1]}
    return bool(has_both) and _pick(schema.names, _QUERIES) is None


def _is_empty_twin(column: pa.Field, name: str) -> bool:
    """Whether a list that is empty in the sample is called like another, as `negative_ctxs` like `positive_ctxs`."""
    is_alike = column.name.rpartition("_")[2] == name.rpartition("_")[2] and "_" in name
    return is_alike and is_list_like(column.type) and pa.types.is_null(column.type.value_type)


def _field_names(column: pa.Field) -> set[str]:
    """Of the objects in a list, such as positive and negative passages, which may have the same."""
    return {each.name for each in candidate_struct(column.type) or ()}


def _pairs(schema: pa.Schema) -> ColumnMap | None:
    query = _pick(_texts(schema), _QUERIES)
    document = None if query is None else _document(schema, (query,))
    if query is None or document is None:
        return None
    query_id = _pick(_ids(schema), _QUERY_IDS[:-1])
    doc_id = _pick([name for name in _ids(schema) if name != query_id], _DOCUMENT_IDS)
    columns = {"query": query, "document": document, "query_id": query_id, "doc_id": doc_id}
    return ColumnMap("pairs", ColumnsConfig.model_validate(columns))


def _document(schema: pa.Schema, taken: Collection[str]) -> str | list[str] | None:
    names = [name for name in _texts(schema) if name not in taken]
    text, title = _pick(names, _TEXTS), _pick(names, _TITLES)
    if text is None:
        return title
    is_of_one = title is not None and title.rpartition(".")[0] == text.rpartition(".")[0]
    return [title, text] if title is not None and is_of_one else text


def _pick(names: Sequence[str], likely: Sequence[str]) -> str | None:
    """The name that stands first among those that are likely: by the whole path, its last part, or what has a text."""
    for plain in (_plain, _last, _owner):
        known = {plain(name): name for name in reversed(names)}
        if (first := next((known[each] for each in likely if each in known), None)) is not None:
            return first
    return None


def _last(name: str) -> str:
    return _plain(name.rpartition(".")[2])


def _owner(name: str) -> str:
    """Of `q.text` it is `q`."""
    return _plain(name.partition(".")[0]) if _last(name) in _TEXTS else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _texts(schema: pa.Schema) -> list[str]:
    return [name for name, data_type in _leaves(schema, "") if is_text(data_type)]


def _ids(schema: pa.Schema) -> list[str]:
    return [name for name, data_type in _leaves(schema, "") if id_family(data_type) in ("string", "integer")]


def _is_texts(data_type: pa.DataType) -> bool:
    return is_text(data_type.value_type)


def _leaves(fields: Any, prefix: str) -> Iterator[tuple[str, pa.DataType]]:
    """Single values by their paths."""
    for each in fields:
        if pa.types.is_struct(each.type):
            yield from _leaves(each.type, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, each.type
