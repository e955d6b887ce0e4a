"""What does not join: the list of it, and the likely cause where nothing joins at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.preparing.joining.assembling import MISSING_SCHEMA
from reranker_batch.preparing.joining.sources import TextTable
from reranker_batch.preparing.record import MISSING
from reranker_batch.preparing.work import Work
from reranker_batch.storage.files.bucketed import STAGING
from reranker_batch.storage.prepared import publish_table
from reranker_batch.storage.tables.pieces import pieces

_LOOKED_AT = 100_000
"""Ids of each side among which a cause is looked for."""
_SHOWN = 3
_LONGEST_ID = 100


def write_missing(work: Work) -> int:
    """Write the lists of all parts as `_missing.parquet`; the number of its rows.

    Raises:
        CommitError: It cannot be written.
    """
    tables = (table for number in range(work.num_ranges) for table in work.open("missing", number).tables(0))
    filled = (table for table in tables if len(table))
    return publish_table(work.goal, work.folder.folder(STAGING), MISSING, MISSING_SCHEMA, filled, kind=None)


def no_match(work: Work, source: TextTable, column: str, *, rows: int) -> InputError:
    """That no id of the run is in a source, with ids of both sides and what may be the matter."""
    asked = list(islice(_asked_ids(work, column), _LOOKED_AT))
    known = list(islice(_known_ids(source), _LOOKED_AT))
    key = f"prepare.{source.kind}"
    if not rows:
        return InputError(f"{key} has no rows, so that no {column} of the run has a text. Check {key}.path.")
    there = set(known)
    if common := [value for value in asked if value in there]:
        return InputError(
            f"No {column} of the run has a text in {key}, which has the ids, such as {_shown(common)}. Check "
            f"{key}.text, now {', '.join(source.text)}."
        )
    return InputError(
        f"No {column} of the run is an id of {key} ({rows:,} rows). The run has {_shown(asked)}; column {source.id!r} "
        f"of {key} has {_shown(known)}. {likely_cause(asked, known)}".rstrip()
        + f" Check {key}.id and prepare.run.{column}."
    )


def likely_cause(asked: Sequence[str], known: Sequence[str]) -> str:
    """How the ids of two sides differ, in a sentence; what their forms tell where no change makes them equal."""
    for cause, change in _CHANGES.items():
        if {change(value) for value in asked} & {change(value) for value in known}:
            return f"Likely cause: {cause}."
    for one, other, whose in ((asked, known, "the run"), (known, asked, "the other side")):
        prefix = _common_prefix(one)
        if prefix and {value.removeprefix(prefix) for value in one} & set(other):
            return f"Likely cause: the ids of {whose} begin with {prefix[:_LONGEST_ID]!r}."
    stems = {_stem(value) for value in known}
    if stems & {_stem(value) for value in asked}:
        return "Likely cause: one side has a prefix or zeros that the other has not."
    kinds = _kind(asked), _kind(known)
    return "" if kinds[0] == kinds[1] else f"The ids of the run are {kinds[0]}, those of the other side {kinds[1]}."


def _common_prefix(values: Sequence[str]) -> str:
    first, last = min(values, default=""), max(values, default="")
    length = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), 0)
    return first[:length]


def _stem(value: str) -> str:
    """The digits at the end."""
    match = re.search(r"[0-9]+$", value.strip())
    return match[0].lstrip("0") if match else value


_CHANGES: dict[str, Callable[[str], str]] = {
    "blanks around the ids": str.strip,
    "upper and lower case differ": lambda value: value.strip().lower(),
    "leading zeros, as in 007 and 7": lambda value: value.strip().lstrip("0") if value.strip().isdigit() else value,
    "numbers that were written as 7.0 and 7": lambda value: value.strip().removesuffix(".0"),
    "quotes around the ids": lambda value: value.strip().strip("\"'"),
    "paths or file names around the ids": lambda value: os.path.splitext(os.path.basename(value.strip()))[0],
}


def _kind(values: Sequence[str]) -> str:
    if not values:
        return "none at all"
    return "whole numbers" if all(value.strip().lstrip("-").isdigit() for value in values) else "texts"


def _shown(values: Sequence[str]) -> str:
    shown = [repr(value[:_LONGEST_ID]) for value in dict.fromkeys(values)][:_SHOWN]
    return ", ".join(shown) or "none"


def _asked_ids(work: Work, column: str) -> Iterator[str]:
    for number in range(work.num_ranges):
        for table in work.open("order", number).tables(work.document_buckets):
            yield from _texts(table[column])


def _known_ids(source: TextTable) -> Iterator[str]:
    for number, piece in enumerate(pieces(source.files)):
        for table in source.read(number, piece):
            yield from _texts(table["id"])


def _texts(ids: pa.ChunkedArray) -> Iterator[str]:
    for value in ids.slice(0, _LOOKED_AT).unique().cast(pa.large_binary()).to_pylist():
        yield value.decode(errors="replace")
