"""Columns of a format that the sample did not show, and that rows further on turn out to have."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa
import yaml

from reranker_batch.config import ColumnsConfig
from reranker_batch.config.columns import as_list
from reranker_batch.errors import InputError
from reranker_batch.preparing.table.formats import FORMATS, ColumnMap, columns_of, map_of
from reranker_batch.storage.input.promotion import common_type

_IDS = ("query_id", "doc_id")


@dataclass(frozen=True)
class Names(Collection[str]):
    """Columns to read: some by name, and those that a pattern with `*` fits. Iteration gives the names alone."""

    names: frozenset[str]
    patterns: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return name in self.names or any(fnmatchcase(str(name), pattern) for pattern in self.patterns)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.names))

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Watch:
    """A format whose columns were taken from a sample. Small and picklable."""

    format: str
    asked: ColumnsConfig
    seen: pa.Schema
    mapped: ColumnMap

    def wanted(self, own: Collection[str]) -> Names:
        """The columns that are read, and those that the format could have too."""
        tops = {str(column).partition(".")[0] for column in columns_of(FORMATS[self.format])}
        patterns = frozenset(name for name in tops if "*" in name)
        return Names(frozenset(own) | (tops - patterns), patterns)

    def check(self, schema: pa.Schema) -> None:
        """Raises InputError when rows with these columns have lists, parts of a text or ids that would be left out."""
        if schema.equals(self.seen):
            return
        again = map_of(FORMATS[self.format], _both(self.seen, schema), self.asked)
        if again is None or not (more := _more(self.mapped.columns, again.columns)):
            return
        known = self.mapped.columns.model_dump()
        changed = {key: value for key, value in again.columns.model_dump().items() if value != known[key]}
        section = {"input": {"format": self.format, "columns": changed}}
        shown = yaml.safe_dump(section, default_flow_style=True, sort_keys=False, width=10_000).strip()
        raise InputError(
            f"There are columns of input.format={self.format} that the rows at the beginning do not have: "
            f"{', '.join(more)}. Set {shown[1:-1]}, so that they are read."
        )


def _both(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    types = {field.name: field.type for field in first}
    for field in second:
        known = types.get(field.name, pa.null())
        types[field.name] = common_type(known, field.type) or known
    return pa.schema(list(types.items()))


def _more(known: ColumnsConfig, again: ColumnsConfig) -> list[str]:
    """The columns in addition, where nothing else changes."""
    more: list[str] = []
    for key in ("candidates", "document"):
        before, after = (as_list(getattr(each, key)) for each in (known, again))
        if set(before) < set(after):
            more += [str(column) for column in after if column not in before]
    return more + [str(getattr(again, key)) for key in _IDS if getattr(known, key) is None and getattr(again, key)]
