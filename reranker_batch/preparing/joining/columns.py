"""Which columns of a table are ids, texts, scores and ranks, where the config does not say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from reranker_batch.config.columns import Column, as_list
from reranker_batch.config.prepare import PrepareConfig, RunConfig, Texts, TextsConfig
from reranker_batch.errors import InputError
from reranker_batch.preparing.joining.sources import RunTable, TextTable, column_at
from reranker_batch.printing import listed
from reranker_batch.schema import is_list_like
from reranker_batch.storage.tables.json_document import KEY_COLUMN
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import columns_seen, read_piece
from reranker_batch.storage.tables.table_files import Form, TableFiles, open_table

QUERY_IDS = ("query_id", "query-id", "qid", "q_id", "queryid", "topic", "topic_id")
DOC_IDS = ("doc_id", "corpus-id", "corpus_id", "docno", "docid", "pid", "did", "document_id", "corpus-ids", "doc_ids")
"""PyTerrier's `docid` is a number of its own, next to `docno`, which is the id."""
SCORES = ("score", "retrieval_score", "sim", "similarity")
RANKS = ("rank", "retrieval_rank")
IDS = {
    "queries": ("_id", "id", *QUERY_IDS),
    "corpus": ("_id", "id", *DOC_IDS[:8]),
}
TEXTS = {
    "queries": ("text", "query", "question", "title"),
    "corpus": ("text", "contents", "passage", "document", "body", "segment"),
}
TITLE = "title"
_HEADERLESS: tuple[Form, ...] = ("tsv", "csv")
_OPEN: tuple[Form, ...] = ("jsonl", "json")
_TREC_RUN, _TREC_QRELS = 6, 4
_TEXT_COLUMNS = 2
"""Id and text."""
_SAMPLED_ROWS = 200


@dataclass(frozen=True)
class _Seen:
    """A table and the first of its rows."""

    key: str
    files: TableFiles
    names: tuple[str, ...]
    rows: pa.Table

    @classmethod
    def of(
        cls,
        place: str,
        key: str,
        form: Form | Literal["auto"],
        ids: Sequence[Column | None],
        others: Sequence[Column | None],
        known_ids: Sequence[str],
        known_others: Sequence[str] = (),
    ) -> _Seen:
        """Files of columns have a header where a column is named, or the first line has names that are known.

        Values of ids are read as texts, others as they are.
        """
        columns, known = [*ids, *others], [*known_ids, *known_others]
        as_text = {*known_ids, *(str(column) for column in ids)}
        files = open_table(place, form=form, has_header=False, key=key)
        if files.form in _HEADERLESS:
            first = _first_rows(files, as_text).slice(0, 1).to_pylist()
            named = {str(value).strip().lower() for row in first for value in row.values()}
            by_place = any(isinstance(column, int) for column in columns)
            by_name = any(isinstance(column, str) for column in columns)
            files = replace(files, has_header=not by_place and (by_name or _are_names(named & set(known))))
        rows = _first_rows(files, as_text)
        names = tuple((columns_seen(files) if files.form == "parquet" else rows.schema).names)
        if not names:
            raise InputError(f"{key}: {files.files[0].path} has no rows. Check {key}.path.")
        seen = cls(key, files, names, rows)
        if seen.is_by_place and len(files.files) > 1 and (most := len(columns_seen(files))) != len(names):
            raise InputError(
                f"{key}: {files.files[0].path} has {len(names)} columns without names, another of the files {most}. "
                f"Give files of the same columns: check {key}.path."
            )
        return seen

    @property
    def is_by_place(self) -> bool:
        return self.files.form == "trec" or (self.files.form in _HEADERLESS and not self.files.has_header)

    def one(self, key: str, column: Column | None, known: Sequence[str], place: int) -> str:
        """The column of a key: as the config says, by a known name, or by its place where there are no names."""
        column_name = self.maybe(key, column, known, place)
        if column_name is None:
            raise InputError(
                f"{self.key}: no column is known as {key}. Columns: {listed(self.names, most=12)}. Set "
                f"{self.key}.{key} to one of them."
            )
        return column_name

    def maybe(self, key: str, column: Column | None, known: Sequence[str], place: int | None) -> str | None:
        """As `one`; None where there is none and the config names none."""
        if column is not None:
            return self._named(key, str(column))
        if self.is_by_place:
            return str(place) if place is not None and place < len(self.names) else None
        by_lower = {name.lower(): name for name in reversed(self.names)}
        return next((by_lower[name] for name in known if name in by_lower), None)

    def _named(self, key: str, name: str) -> str:
        if name not in self.names and name.partition(".")[0] not in self.names:
            raise InputError(f"{self.key}.{key}: there is no column {name!r}. Columns: {listed(self.names, most=12)}.")
        top = name.partition(".")[0]
        if name not in self.names and top in self.rows.column_names and is_list_like(self.rows.schema.field(top).type):
            raise InputError(
                f"{self.key}.{key}: {name!r} leads through the list {top!r}, which a path cannot. Write a row for each "
                "document, or lists of ids and of scores next to each other."
            )
        return name


def _are_names(values: set[str]) -> bool:
    """Whether these values of a first line make it a header. A query or a document may be the one word `text`."""
    return len(values) > 1 or bool(values - {*TEXTS["queries"], *TEXTS["corpus"]})


def _first_rows(files: TableFiles, ids: Collection[str]) -> pa.Table:
    """Some rows; values at the paths `ids` are texts."""
    for piece in pieces(files):
        for raw in read_piece(files, piece, ids=ids):
            return raw.table.slice(0, _SAMPLED_ROWS)
    return pa.table({})


def run_form(config: PrepareConfig) -> Form | Literal["auto"]:
    """The form of the files of a run."""
    return "tsv" if config.run_format == "msmarco" else config.run_format


def run_table(config: PrepareConfig) -> RunTable:
    """The run that a config means.

    Raises:
        InputError: It cannot be read, or it does not say what its columns are; the message lists them.
    """
    run, format_ = config.run, config.run_format
    assert run.path is not None
    form = run_form(config)
    ids, numbers = (run.query_id, run.doc_id), (run.score, run.rank)
    seen = _Seen.of(run.path, "prepare.run", form, ids, numbers, (*QUERY_IDS, *DOC_IDS))
    if format_ == "msmarco":
        return _by_place(seen, run, "rank")
    if _is_trec(seen) and not any(column is not None for column in (*ids, *numbers)):
        return _trec(seen)
    if seen.is_by_place and run.score is None and run.rank is None and len(seen.names) > 2:
        return _third_column(seen, run)
    _refuse_nested_object(seen, run)
    doc_id = seen.one("doc_id", run.doc_id, DOC_IDS, 1)
    return RunTable(
        seen.files,
        seen.one("query_id", run.query_id, QUERY_IDS, 0),
        doc_id,
        seen.maybe("score", run.score, SCORES, None),
        seen.maybe("rank", run.rank, RANKS, None),
        is_nested=is_list_like(column_at(seen.rows, doc_id).type),
    )


def _refuse_nested_object(seen: _Seen, run: RunConfig) -> None:
    """Raises InputError for `{query id: {document id: score}}`, where ids would be columns."""
    is_known = run.query_id is not None or {name.lower() for name in seen.names} & {*QUERY_IDS, *DOC_IDS}
    if seen.files.form == "json" and KEY_COLUMN in seen.names and not is_known:
        raise InputError(
            f"prepare.run: {seen.files.files[0].path} is one object with the ids of queries for names, which is not "
            "read. Write a row for each query and document, as TREC, TSV or JSON lines."
        )


def _is_trec(seen: _Seen) -> bool:
    if seen.files.form == "trec":
        return True
    if not seen.is_by_place or len(seen.names) not in (_TREC_RUN, _TREC_QRELS):
        return False
    return set(seen.rows["1"].to_pylist()) <= {"Q0", "q0", "0"}


def _trec(seen: _Seen) -> RunTable:
    if len(seen.names) == _TREC_QRELS:
        return RunTable(seen.files, "0", "2", score="3")
    if len(seen.names) != _TREC_RUN:
        raise InputError(
            f"prepare.run: a TREC run has 6 columns (qid Q0 docid rank score tag), this one has {len(seen.names)}. "
            "Check the file, or set prepare.run_format."
        )
    return RunTable(seen.files, "0", "2", score="4", rank="3")


def _by_place(seen: _Seen, run: RunConfig, key: Literal["score", "rank"]) -> RunTable:
    query_id, doc_id = seen.one("query_id", run.query_id, (), 0), seen.one("doc_id", run.doc_id, (), 1)
    third = seen.one(key, run.score if key == "score" else run.rank, (), 2)
    is_score = key == "score"
    return RunTable(seen.files, query_id, doc_id, third if is_score else None, None if is_score else third)


def _third_column(seen: _Seen, run: RunConfig) -> RunTable:
    """`qid pid rank` as MS MARCO writes it, or `qid pid score`."""
    values = [str(value).strip() for value in seen.rows["2"].to_pylist()]
    is_whole = all(value.isdigit() for value in values)
    if len(seen.names) == 3 and is_whole and values[0] in ("0", "1"):
        return _by_place(seen, run, "rank")
    if len(seen.names) == 3 and not is_whole:
        return _by_place(seen, run, "score")
    raise InputError(
        f"prepare.run: it cannot be told what the {len(seen.names)} columns of {seen.files.files[0].path} are; its "
        f"first row is {listed([str(value) for value in seen.rows.slice(0, 1).to_pylist()[0].values()], most=8)}. Set "
        "prepare.run_format: msmarco (qid, pid, rank) or trec, or prepare.run.score or prepare.run.rank to the place "
        "of a column, counted from 0."
    )


def text_table(config: TextsConfig, kind: str) -> TextTable:
    """The queries or the corpus that a config means.

    Raises:
        InputError: As `run_table`.
    """
    assert config.path is not None
    texts = config.text if isinstance(config.text, list) else [config.text]
    key = f"prepare.{kind}"
    seen = _Seen.of(config.path, key, "auto", [config.id], texts, IDS[kind], TEXTS[kind])
    text_id = seen.one("id", config.id, IDS[kind], 0)
    if config.text is not None:
        return TextTable(kind, seen.files, text_id, _asked_texts(seen, config.text))
    if seen.is_by_place and len(seen.names) != _TEXT_COLUMNS:
        raise InputError(
            f"{key}: it cannot be told which of the {len(seen.names)} columns of {seen.files.files[0].path}, which "
            f"have no names, is the text. Set {key}.text to its place, counted from 0, or to several, such as [1, 2]."
        )
    # Rows of JSON leave out what they have no value for: the first ones may be those without titles.
    has_title = TITLE in seen.names or seen.files.form in _OPEN
    title = [TITLE] if kind == "corpus" and has_title else []
    text = seen.maybe("text", None, TEXTS[kind], 1)
    if text is None and TITLE not in (seen.names if title else ()):
        text = seen.one("text", None, TEXTS[kind], 1)
    return TextTable(kind, seen.files, text_id, (*title, *([] if text is None else [text])))


def _asked_texts(seen: _Seen, asked: Texts) -> tuple[str, ...]:
    """The columns of a text; of several in JSON only one has to be in the first rows."""
    names = [str(text) for text in as_list(asked)]
    is_seen = [name in seen.names or name.partition(".")[0] in seen.names for name in names]
    if seen.files.form in _OPEN and any(is_seen):
        return tuple(names)
    return tuple(seen.one("text", name, (), 1) for name in names)
