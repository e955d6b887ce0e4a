"""Tables of columns, and the columns of files whose values are all text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.errors import InputError
from reranker_batch.storage.tables.forms import Form
from reranker_batch.storage.tables.lines import Lines

_SHOWN_COLUMNS = 20
_SEPARATORS: Mapping[Form, tuple[str, Mapping[str, str]]] = {
    "csv": ("commas", {"\t": "tabs", ";": "semicolons", "|": "bars"}),
    "tsv": ("tabs", {",": "commas", ";": "semicolons", "|": "bars"}),
}
"""What columns stand between, and what may be meant where there is only one."""
_NAMED = {"tabs": "tsv", "commas": "csv"}


def table_of(columns: Mapping[str, pa.Array], num_rows: int) -> pa.Table:
    """A table that has its rows even where it has no column."""
    return pa.table(columns) if columns else pa.table({"": pa.nulls(num_rows)}).select([])


@dataclass(frozen=True)
class TextColumns:
    """The names of the columns of one file."""

    lines: Lines
    names: tuple[str, ...]

    def kept(self, wanted: Collection[str] | None) -> list[tuple[int, str]]:
        """Place and name of each column that is wanted."""
        return [(at, name) for at, name in enumerate(self.names) if wanted is None or name in wanted]

    def check(self, number: int, num_values: int) -> None:
        """Raises InputError where a line has another number of columns."""
        if num_values == len(self.names):
            return
        more = ", …" if len(self.names) > _SHOWN_COLUMNS else ""
        raise InputError(
            f"{self.lines.place(number)} has {num_values} columns; the first line has {len(self.names)} "
            f"({', '.join(self.names[:_SHOWN_COLUMNS])}{more}). Check the line, and that the file has this form."
        )


def text_columns(lines: Lines, first: Sequence[str]) -> TextColumns:
    """The columns of a file according to its first line, which names them if the file has a header.

    Raises:
        InputError: Columns stand between other characters; a name stands twice, is not valid UTF-8, or tells that lines
            do not end with newlines.
    """
    _refuse_other_separator(lines, first)
    if not lines.files.has_header:
        return TextColumns(lines, tuple(str(number) for number in range(len(first))))
    if wrong := [name for name in first if "\0" in name or "\r" in name]:
        raise InputError(
            f"The header of {lines.file} has a null or a carriage return in {wrong[0][:60]!r}. Write the file as "
            "UTF-8, with newlines at the ends of its lines."
        )
    if twice := [name for name in first if first.count(name) > 1]:
        raise InputError(
            f"Column name {twice[0]!r} stands twice in the header of {lines.file}. Rename one; if its first line is no "
            "header, name columns by their places, such as input.columns.query: 2."
        )
    if wrong := [name for name in first if not _is_unicode(name)]:
        raise InputError(f"Column name {wrong[0]!r} in the header of {lines.file} is not valid UTF-8. Rename it.")
    return TextColumns(lines, tuple(first))


def _refuse_other_separator(lines: Lines, first: Sequence[str]) -> None:
    """Raises InputError for one column that seems to be several."""
    form = lines.files.form
    if len(first) != 1 or form not in _SEPARATORS:
        return
    own, others = _SEPARATORS[form]
    if seen := next((name for mark, name in others.items() if mark in first[0]), None):
        advice = f", or name it .{_NAMED[seen]}" if seen in _NAMED else ""
        raise InputError(
            f"The first line of {lines.file} is one column, and has {seen}. Columns of {form.upper()} stand between "
            f"{own}. Write the file so{advice}."
        )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
