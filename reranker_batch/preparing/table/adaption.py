"""Which columns of a raw table become which of prepared input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from reranker_batch.config import ColumnsConfig
from reranker_batch.config.columns import Column, as_list
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.schema import canonical_type, is_list_like
from reranker_batch.storage.input.columns import COLUMNS_KEY, FileSchema, candidate_struct, is_text
from reranker_batch.storage.input.reading import DOCUMENT_COLUMNS

Path = tuple[str, ...]
"""A column, or a field of a struct, and the fields inside it."""

_TAKEN = {"query", "candidates"}
"""Names of prepared columns that a passthrough column could have and may not."""


def refuse_taken(columns: ColumnsConfig) -> None:
    """Refuse passthrough columns whose names a converted table needs itself. A table that is read as it is has no such.

    Raises:
        ConfigError: Names them.
    """
    own = {"query"} if columns.query == "query" else set()
    if taken := sorted((_TAKEN - own) & set(columns.passthrough)):
        raise ConfigError(
            f"{COLUMNS_KEY}passthrough: {', '.join(taken)} is the name of a column that the converted table has "
            "itself. Rename it in the input."
        )


@dataclass(frozen=True)
class CandidateList:
    """A column with candidates: a list of structs or of texts, or a text."""

    name: str
    column: Path


@dataclass(frozen=True)
class Adaption:
    """Where the columns of prepared input come from. Small and picklable."""

    layout: str
    query_id: Path | None
    query: Path
    doc_id: Path | None
    """A field of the structs or, with `has_id_list`, a column with a list; in the pairs layout a column."""
    document: tuple[Path, ...]
    lists: tuple[CandidateList, ...] = ()
    has_id_list: bool = False
    names_lists: bool = False
    """Whether each candidate tells the name of its list."""
    is_joined: bool = False
    separator: str = " "
    query_passthrough: tuple[tuple[str, Path], ...] = ()
    candidate_passthrough: tuple[tuple[str, Path], ...] = ()
    is_open: bool = False
    """Whether rows may lack columns that others have, as those of JSON may."""

    @property
    def document_name(self) -> str:
        """Of the prepared column with the text; a passthrough column keeps its own name."""
        first, second = DOCUMENT_COLUMNS
        names = {name for name, _ in (*self.query_passthrough, *self.candidate_passthrough)}
        return second if first in names else first

    @property
    def is_plain(self) -> bool:
        """Whether reading the table as it is gives the same."""
        paths = [*self._columns(), *self.document, *(path for _, path in self.candidate_passthrough)]
        paths += [] if self.doc_id is None else [self.doc_id]
        return not (self.is_joined or self.names_lists) and all(len(path) == 1 for path in paths)

    @property
    def wanted(self) -> list[str]:
        """The columns to read."""
        return sorted({path[0] for path in self._columns()})

    def _columns(self) -> Iterator[Path]:
        yield self.query
        yield from ([] if self.query_id is None else [self.query_id])
        yield from (path for _, path in self.query_passthrough)
        yield from (one.column for one in self.lists)
        if self.layout == "pairs":
            yield from self.document
            yield from (path for _, path in self.candidate_passthrough)
        if self.doc_id is not None and (self.layout == "pairs" or self.has_id_list):
            yield self.doc_id

    @property
    def ids(self) -> list[str]:
        """Dotted paths of the columns whose values are ids."""
        paths = [] if self.query_id is None else [self.query_id]
        if self.doc_id is not None:
            is_field = self.layout == "nested" and not self.has_id_list
            paths += [(*one.column, *self.doc_id) for one in self.lists] if is_field else [self.doc_id]
        return [".".join(path) for path in paths]


@dataclass(frozen=True)
class Resolver:
    """Looks the columns of a config up in the columns that were seen.

    The errors name the columns that are there and the key to set. `is_open` says that rows may have further columns,
    as those of JSON may.
    """

    schema: pa.Schema
    config: ColumnsConfig
    name: str
    is_open: bool = False

    def adaption(self, layout: str) -> Adaption:
        """Raises InputError where a column is missing or cannot be what it should."""
        FileSchema.of(self.schema, self.name)
        return self._pairs() if layout == "pairs" else self._nested()

    def _pairs(self) -> Adaption:
        config = self.config
        return Adaption(
            layout="pairs",
            query_id=self._id("query_id", config.query_id),
            query=self._text("query", config.query),
            doc_id=self._id("doc_id", config.doc_id),
            document=self._texts_in(self.schema, self.name),
            is_joined=isinstance(config.document, list),
            separator=config.separator,
            is_open=self.is_open,
            candidate_passthrough=tuple((name, self._need("passthrough", name)) for name in self._names),
        )

    def _nested(self) -> Adaption:
        config = self.config
        query = self._text("query", config.query)
        candidates = as_list(config.candidates)
        may_lack = self._may_lack(self.schema, candidates)
        lists = tuple(CandidateList(str(one), self._candidates(one, may_lack=may_lack)) for one in candidates)
        fields = self._fields(lists)
        has_structs = any(self._struct_of(one) is not None for one in lists)
        doc_id, has_id_list = self._nested_id(lists, fields, has_structs=has_structs)
        top, inner = self._passthrough(fields)
        return Adaption(
            layout="nested",
            query_id=self._id("query_id", config.query_id),
            query=query,
            doc_id=doc_id,
            document=self._documents(fields) if has_structs else (),
            lists=lists,
            has_id_list=has_id_list,
            names_lists=isinstance(config.candidates, list),
            is_joined=isinstance(config.document, list),
            separator=config.separator,
            is_open=self.is_open,
            query_passthrough=top,
            candidate_passthrough=inner,
        )

    def _may_lack(self, schema: pa.Schema, columns: Sequence[Column]) -> bool:
        """Whether the sample need not have all of several columns: rows of JSON leave out what they have no value for.

        One of them has to be there.
        """
        return self.is_open and any(find(schema, column) is not None for column in columns)

    def _candidates(self, column: Column, *, may_lack: bool) -> Path:
        if may_lack and find(self.schema, column) is None:
            return split(column)
        path = self._need("candidates", column)
        seen = type_at(self.schema, path)
        item = seen.value_type if is_list_like(seen) else None
        is_open = pa.types.is_null(seen) or (item is not None and (pa.types.is_struct(item) or is_text(item)))
        is_one_of_many = isinstance(self.config.candidates, list) and is_text(seen)
        if not is_open and not is_one_of_many:
            raise InputError(
                f"Column {str(column)!r} in {self.name} is {seen}, a list of structs or of texts is expected. "
                f"Set {COLUMNS_KEY}candidates, or input.layout: pairs where a row is one document."
            )
        return path

    def _struct_of(self, one: CandidateList) -> pa.StructType | None:
        path = find(self.schema, one.name)
        return None if path is None else candidate_struct(type_at(self.schema, path))

    def _fields(self, lists: tuple[CandidateList, ...]) -> pa.Schema:
        """The fields of the structs of all lists together."""
        fields: dict[str, pa.Field] = {}
        for one in lists:
            for each in self._struct_of(one) or ():
                known = fields.get(each.name)
                if known is None or pa.types.is_null(known.type):
                    fields[each.name] = each
        return pa.schema(list(fields.values()))

    def _documents(self, fields: pa.Schema) -> tuple[Path, ...]:
        return self._texts_in(fields, "the candidates")

    def _texts_in(self, schema: pa.Schema, where: str) -> tuple[Path, ...]:
        """The columns of a document."""
        columns = as_list(self.config.document)
        may_lack = self._may_lack(schema, columns)
        return tuple(
            split(column)
            if may_lack and find(schema, column) is None
            else self._text_in(schema, "document", column, where)
            for column in columns
        )

    def _nested_id(
        self, lists: tuple[CandidateList, ...], fields: pa.Schema, *, has_structs: bool
    ) -> tuple[Path | None, bool]:
        """The path of the document ids, and whether it is a list of its own."""
        column = self.config.doc_id
        if column is None:
            return None, False
        is_default = column == "doc_id"
        if has_structs or (self.is_open and find(self.schema, column) is None):
            path = find(fields, column)
            if path is None and not (is_default or self.is_open):
                raise self._missing("doc_id", column, fields, "the candidates")
            return path or (split(column) if self.is_open else None), False
        path = find(self.schema, column)
        if path is None:
            if not is_default:
                raise self._missing("doc_id", column, self.schema, self.name)
            return None, False
        if len(lists) > 1:
            if is_default:
                return None, False
            raise InputError(
                f"{COLUMNS_KEY}doc_id={column}: several lists of texts cannot have one list of ids. Set "
                f"{COLUMNS_KEY}doc_id: null."
            )
        seen = type_at(self.schema, path)
        if not is_list_like(seen) and not pa.types.is_null(seen):
            raise InputError(
                f"Column {str(column)!r} in {self.name} is {seen}, a list of ids for the list of texts "
                f"{lists[0].name!r} is expected. Set {COLUMNS_KEY}doc_id, or null for derived ids."
            )
        return path, True

    def _passthrough(self, fields: pa.Schema) -> tuple[tuple[tuple[str, Path], ...], tuple[tuple[str, Path], ...]]:
        top: list[tuple[str, Path]] = []
        inner: list[tuple[str, Path]] = []
        for name in self._names:
            above, below = find(self.schema, name), find(fields, name)
            if above is not None and below is not None:
                raise InputError(
                    f"Passthrough {name!r} is a column and a field of the candidates in {self.name}, so it is not "
                    "clear which is meant. Rename one of them."
                )
            if above is None and below is None:
                raise self._missing("passthrough", name, pa.schema([*self.schema, *fields]), self.name)
            top += [] if above is None else [(name, above)]
            inner += [] if below is None else [(name, below)]
        return tuple(top), tuple(inner)

    @property
    def _names(self) -> list[str]:
        """Of passthrough columns; the text of the query has its column already."""
        return [name for name in self.config.passthrough if name != "query"]

    def _id(self, key: str, column: Column | None) -> Path | None:
        if column is None:
            return None
        path = find(self.schema, column)
        if path is None and column != key:
            raise self._missing(key, column, self.schema, self.name)
        return path or (split(column) if self.is_open else None)

    def _need(self, key: str, column: Column) -> Path:
        path = find(self.schema, column)
        if path is None:
            raise self._missing(key, column, self.schema, self.name)
        return path

    def _text(self, key: str, column: Column) -> Path:
        return self._text_in(self.schema, key, column, self.name)

    def _text_in(self, schema: pa.Schema, key: str, column: Column, where: str) -> Path:
        path = find(schema, column)
        if path is None:
            raise self._missing(key, column, schema, where)
        seen = type_at(schema, path)
        if not is_text(seen):
            raise InputError(
                f"{str(column)!r} of {where} is {_shown_type(seen)}, text is expected. Set {COLUMNS_KEY}{key}."
            )
        return path

    def _missing(self, key: str, column: Column, schema: pa.Schema, where: str) -> InputError:
        of = where if where == self.name else f"{where} in {self.name}"
        return InputError(
            f"Column {str(column)!r} is missing in {of}; found: {shown_columns(schema)}. Set {COLUMNS_KEY}{key}."
        )


def split(column: Column) -> Path:
    """The path that a dotted name stands for where no column has that name."""
    return tuple(str(column).split("."))


def find(schema: pa.Schema, column: Column) -> Path | None:
    """The path of a column by its name, or by the names of a struct and its fields; None where it is not there.

    A name with a dot that is there wins over a path.
    """
    return _find({each.name: each.type for each in schema}, str(column))


def _find(fields: dict[str, pa.DataType], name: str) -> Path | None:
    if name in fields:
        return (name,)
    for at in (at for at, character in enumerate(name) if character == "."):
        data_type = fields.get(name[:at])
        if data_type is not None and pa.types.is_struct(data_type):
            rest = _find({each.name: each.type for each in data_type}, name[at + 1 :])
            if rest is not None:
                return (name[:at], *rest)
    return None


def type_at(schema: pa.Schema, path: Path) -> pa.DataType:
    """The canonical type at a path that `find` gave."""
    data_type = schema.field(path[0]).type
    for name in path[1:]:
        data_type = data_type.field(data_type.get_field_index(name)).type
    return canonical_type(data_type)


def shown_columns(schema: pa.Schema) -> str:
    """Names of columns, those of structs with their fields; never a value."""
    return ", ".join(_shown(each) for each in schema) or "none"


def _shown(each: pa.Field) -> str:
    data_type = each.type
    is_list = is_list_like(data_type)
    inner = data_type.value_type if is_list else data_type
    if pa.types.is_struct(inner):
        fields = ", ".join(_shown(one) for one in inner)
        return f"{each.name}[{fields}]" if is_list else f"{each.name}{{{fields}}}"
    return f"{each.name}[]" if is_list else str(each.name)


def _shown_type(data_type: pa.DataType) -> str:
    if pa.types.is_struct(data_type):
        return f"an object with {', '.join(each.name for each in data_type)}"
    return str(data_type)
