"""Warnings for derived ids: columns that look like ids although the configured id column is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.config import Columns
from reranker_batch.schema import canonical_type
from reranker_batch.storage.input.columns import FileColumns, id_family, quoted

_ANY = {"id"}
_QUERY = {"qid", "queryid", "qno", "questionid", "topic", "topicid", "searchid"}
_DOCUMENT = {"docid", "docno", "did", "documentid", "pid", "passageid", "corpusid", "candidateid", "itemid", "chunkid"}
_DOCUMENT |= {"productid"}


@dataclass(frozen=True)
class LikelyIds:
    """Of one file: names that look like ids where the column of the config is not there, else None."""

    file: str
    query: tuple[str, ...] | None
    document: tuple[str, ...] | None
    has_query_id: bool
    has_doc_id: bool


def likely_ids(
    schema: pa.Schema,
    names: Columns,
    columns: FileColumns,
    file: str,
    *,
    document_fields: Sequence[pa.Field] | None,
    is_row_a_query: bool,
) -> LikelyIds:
    """Look for ids only if the default id column is missing; null in the config means that ids are derived on purpose.

    `document_fields` are those that could be a document's id, None where the file does not tell.
    """
    query = document = None
    if columns.query_id is None and names.query_id is not None:
        query = tuple(_matching(schema, _QUERY | _ANY if is_row_a_query else _QUERY))
    if columns.doc_id is None and names.doc_id is not None and document_fields is not None:
        document = tuple(_matching(document_fields, _DOCUMENT | _ANY))
    return LikelyIds(file, query, document, columns.query_id is not None, columns.doc_id is not None)


def id_warnings(files: Sequence[LikelyIds]) -> Iterator[str]:
    """A warning for query ids and one for document ids if they may be derived by mistake."""
    queries = [(file.file, file.query) for file in files if file.query is not None]
    documents = [(file.file, file.document) for file in files if file.document is not None]
    for key, lacking, others_have in (
        ("query_id", queries, any(file.has_query_id for file in files)),
        ("doc_id", documents, any(file.has_doc_id for file in files)),
    ):
        names = list(dict.fromkeys(name for _, likely in lacking for name in likely))
        if names:
            yield (
                f"{lacking[0][0]} has no {key!r}, so ids are made of file and row. {quoted(names)} may be meant: set "
                f"input.columns.{key} to it, or to null where made-up ids are right."
            )
        elif lacking and others_have:
            yield (
                f"{len(lacking)} of {len(files)} files, such as {lacking[0][0]}, have no {key!r} and others have, so "
                "ids of these are made of file and row."
            )


def _matching(fields: Iterable[pa.Field], likely: set[str]) -> Iterator[str]:
    for field in fields:
        plain = re.sub(r"[^a-z0-9]", "", field.name.lower())
        if {plain, plain.removesuffix("s")} & likely and id_family(canonical_type(field.type)) not in (None, "null"):
            yield field.name
