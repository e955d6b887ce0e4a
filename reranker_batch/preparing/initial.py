"""A first config for a table, with what was seen and guessed as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from reranker_batch.config import ColumnsConfig
from reranker_batch.errors import ConfigError
from reranker_batch.preparing.table.adaption import find
from reranker_batch.preparing.table.folders import TableFolder, tables_in
from reranker_batch.preparing.table.guessing import Guess
from reranker_batch.preparing.table.source import Recognised, recognise
from reranker_batch.schema import is_list_like
from reranker_batch.storage.files.places import is_within
from reranker_batch.storage.input.columns import is_text
from reranker_batch.storage.input.query_runs import begins_query
from reranker_batch.storage.tables.pieces import pieces
from reranker_batch.storage.tables.reading import read_piece
from reranker_batch.storage.tables.table_files import open_table
from reranker_batch.storage.values import id_strings, list_values, one_chunk

_MODEL = "builtin:mini"
_WIDTH = 110
_RUN_COLUMNS = 3


@dataclass(frozen=True)
class _Draft:
    """The sections of a config that are about the input, and the comments above them."""

    comments: Sequence[str]
    sections: dict[str, Any]


def first_config(place: str) -> str:
    """The text of a config that reads what is at `place`.

    Raises:
        InputError: Nothing is there, or its columns tell nothing; the message lists them.
        ConfigError: The place cannot be used.
    """
    tables = tables_in(place)
    draft = _of_folder(tables) if tables is not None else _of_table(place)
    lines = [f"Written by `reranker-batch init {_one_line(place)}`. Check what it guessed.", "", *draft.comments]
    comments = "\n".join(f"# {line}".rstrip() for line in lines)
    return f"{comments}\n\n{_dumped(draft.sections)}{_rest(place)}"


def write_first_config(place: str, goal: Path) -> None:
    """Write it to a new file.

    Raises:
        ConfigError: The file is there already, or cannot be written.
        InputError: As `first_config`.
    """
    if goal.exists():
        raise ConfigError(f"{goal} is there already. Name another file with --output.")
    text = first_config(place)
    try:
        with goal.open("x", encoding="utf-8") as sink:
            sink.write(text)
    except OSError as error:
        raise ConfigError(f"{goal} cannot be written: {error.strerror}.") from None


def _of_folder(tables: TableFolder) -> _Draft:
    comments = [
        "Seen: tables for queries, documents and their pairs, by their names. They are joined before they are scored.",
        "Columns with the usual names are recognised; the keys of prepare.run, queries and corpus name others.",
    ]
    if tables.is_judged:
        comments.append("No run was there, so the judged documents are scored. Name your run in prepare.run.")
    section = tables.section()
    if not tables.is_judged and _has_ranks(tables.run):
        comments.append("The third column of the run has whole numbers, which are taken for ranks.")
        section["run_format"] = "msmarco"
    return _Draft(comments, {"prepare": section})


def _has_ranks(run: str) -> bool:
    """Whether a run has three columns without a header, the third of whole numbers."""
    files = open_table(run, has_header=False, key="prepare.run")
    if files.form != "tsv":
        return False
    rows = next(read_piece(files, pieces(files)[0]), None)
    if rows is None or rows.table.num_columns != _RUN_COLUMNS:
        return False
    return bool(pc.all(pc.match_substring_regex(rows.table.column(2), "^[0-9]+$")).as_py())


def _of_table(place: str) -> _Draft:
    seen = recognise(place)
    guess, *others = seen.guesses
    comments = [f"Seen: {_files(seen)}, with these columns:", *(f"  {line}" for line in described(seen.rows))]
    comments += ["", f"Guessed: {guess.why}."]
    section = guess.section()
    for other in others:
        comments += ["", "It may also be:", *other.shown().split("\n")]
    if guess.columns.layout == "pairs" and not _is_sorted(seen, guess):
        comments += ["", "The rows of a query do not stand together, so they are grouped first."]
        return _Draft(comments, {**({"input": section} if section else {}), "prepare": {"run": place}})
    return _Draft(comments, {"input": {"path": place, **section}})


def _files(seen: Recognised) -> str:
    files = seen.files
    header = "" if files.has_header or files.form not in ("csv", "tsv") else ", no header"
    return f"{len(files.files):,} file{'s' if len(files.files) > 1 else ''} ({files.form}{header})"


def _rest(place: str) -> str:
    output = f"out/{_stem(place)}"
    if is_within(output, place):
        output = f"{place.rstrip('/')}-reranked"
    shown = _dumped({"output": {"path": output}}).rstrip()
    return (
        f"\nmodel:\n  name: {_MODEL}  # for a first try; then a hub id or a folder, such as BAAI/bge-reranker-v2-m3\n"
        f"\nranking:\n  top_n: 10  # candidates to keep of each query; null keeps all\n\n{shown}  # a new folder\n"
    )


def _stem(place: str) -> str:
    name = re.sub(r"[?*].*", "", place.rstrip("/")).rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w-]", "-", name.partition(".")[0]).strip("-") or "reranked"


def _dumped(values: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=None)
    return text


def _is_sorted(seen: Recognised, guess: Guess) -> bool:
    """Whether no query of the sample comes back."""
    columns = guess.columns.columns
    ids, texts = _column(seen.rows, columns, "query_id"), _column(seen.rows, columns, "query")
    if texts is None:
        return True
    keys = texts if ids is None else ids
    starts = keys.filter(pa.array(begins_query(ids, texts)))
    return len(starts.drop_null()) == len(pc.unique(starts.drop_null()))


def _column(rows: pa.Table, columns: ColumnsConfig, key: str) -> pa.Array | None:
    column = getattr(columns, key)
    path = None if column is None else find(rows.schema, column)
    return None if path is None or len(path) > 1 else id_strings(one_chunk(rows[path[0]].chunks, rows[path[0]].type))


def described(rows: pa.Table) -> Iterator[str]:
    """A line for each column of a sample: name, type, and how long its texts are. Never a value."""
    for name in rows.column_names:
        yield from _described(name, one_chunk(rows[name].chunks, rows[name].type))


def _described(name: str, values: pa.Array) -> Iterator[str]:
    """One line, and one below it for each field of a struct."""
    start = f"{_one_line(name)}: "
    while is_list_like(values.type):
        start += f"lists, {len(list_values(values)) / max(len(values), 1):.1f} items on average; "
        values = list_values(values)
    yield (start + _kind(values))[:_WIDTH]
    if pa.types.is_struct(values.type):
        for field, inner in zip(values.type, values.flatten(), strict=True):
            yield from (f"  {line}" for line in _described(field.name, inner))


def _kind(values: pa.Array) -> str:
    if pa.types.is_null(values.type):
        return "no value"
    if pa.types.is_struct(values.type):
        return "an object with"
    if is_text(values.type):
        return f"text, {pc.mean(pc.binary_length(values)).as_py() or 0:.0f} bytes on average"
    return str(values.type)


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
