"""A table as people have it: its files, its columns, and how it becomes an input that is read as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa

from reranker_batch.config import ColumnsConfig, InputConfig, JobConfig
from reranker_batch.errors import ConfigError, InputError
from reranker_batch.preparing.table.adaption import Adaption, Resolver, refuse_taken, shown_columns
from reranker_batch.preparing.table.formats import FORMATS, ColumnMap, fitting, likely_ids, map_of
from reranker_batch.preparing.table.guessing import Guess, guesses, is_run
from reranker_batch.preparing.table.watching import Watch
from reranker_batch.storage.files.filesystem import is_builtin
from reranker_batch.storage.input.listing import list_input, shown_left_out
from reranker_batch.storage.input.reading import mark_of
from reranker_batch.storage.tables.pieces import footer_of, pieces
from reranker_batch.storage.tables.reading import columns_seen, read_piece
from reranker_batch.storage.tables.table_files import TableFiles, open_table

_OPEN_FORMS = ("jsonl", "json")
_TEXT_FORMS = ("csv", "tsv", "trec")
_TOP1000 = "msmarco-top1000"
_BY_HAND = " Write a config by hand: input.columns names the columns."
_BY_REFERENCE = (
    " Rows that have ids alone are a run: name it in prepare.run, and the tables with the texts in prepare.queries and "
    "prepare.corpus."
)


@dataclass(frozen=True)
class Source:
    """A table that has to be converted before it is read."""

    files: TableFiles
    adaption: Adaption
    watch: Watch | None = None
    """The format by which the columns were found, if they were."""

    @property
    def wanted(self) -> Collection[str]:
        """The columns to read."""
        own = self.adaption.wanted
        return own if self.watch is None else self.watch.wanted(own)


@dataclass(frozen=True)
class Look:
    """What an input is, from its names and a sample."""

    config: InputConfig
    """With the layout and the columns that were recognised."""
    source: Source | None = None
    """None where the files are read as they are."""
    notes: tuple[str, ...] = ()
    """What was recognised without being asked for."""
    hint: str = ""
    """Which columns may be meant, if those of the config turn out not to be there."""

    def known(self, job: JobConfig) -> JobConfig:
        """The settings of a job with what was recognised."""
        return job.model_copy(update={"input": self.config})


def look_at(config: InputConfig) -> Look:
    """Find the form and the columns of an input.

    Raises:
        ConfigError: The config asks for what the form of the files does not have.
        InputError: Nothing is there, or the columns of the config are not; the message says which may be meant.
    """
    if is_builtin(config.path):
        return Look(config)
    files = _opened(config)
    if files.form == "parquet" and _is_as_it_is(config, files):
        return Look(config)
    return _look(config, files)


def _opened(config: InputConfig) -> TableFiles:
    """The files of one form; where there are several, those of Parquet."""
    named = FORMATS.get(config.format)
    is_headless = config.columns.has_positions or bool(named and named.num_columns)
    try:
        files = open_table(config.path, has_header=not is_headless)
    except InputError:
        if not _has_parquet_among_others(config.path):
            raise
        return open_table(config.path, form="parquet")
    is_for_planning = files.form == "parquet" and config.format == "auto" and config.columns.plain() is not None
    if config.skip_bad_files and not is_for_planning:
        files = open_table(config.path, has_header=not is_headless, skip_bad=True)
    if is_headless and files.form not in _TEXT_FORMS:
        raise ConfigError(
            f"input.columns has positions, which count the columns of CSV and TSV files without a header. "
            f"{files.files[0].path} is {files.form}: give the names of its columns."
        )
    return files


def _has_parquet_among_others(place: str) -> bool:
    try:
        return bool(list_input(place).left_out)
    except InputError:
        return False


def _is_as_it_is(config: InputConfig, files: TableFiles) -> bool:
    """Whether Parquet was prepared, or cannot be used, so that planning names all files that cannot."""
    try:
        return mark_of(footer_of(files, 0).metadata.metadata) is not None
    except InputError:
        if config.columns.plain() is None:
            raise
        return True


def _look(config: InputConfig, files: TableFiles) -> Look:
    try:
        seen = _seen(config, files)
    except InputError:
        if files.form == "parquet":
            return Look(config)
        raise
    if not len(seen):
        raise _without_rows(config, files)
    if config.format != "auto":
        return _named(config, files, seen)
    asked = ColumnMap(config.layout, config.columns)
    try:
        return _with_adaption(config, asked, files, _adaption(asked, files, seen))
    except InputError as error:
        recognised = _recognised(config, files, seen)
        if recognised is not None:
            return recognised
        return _refused(config, files, seen, error)


def _without_rows(config: InputConfig, files: TableFiles) -> InputError:
    first = files.files[0]
    is_header = files.has_header and first.size_bytes > 0
    seen = "has nothing below its first line, which names the columns" if is_header else "is empty"
    return InputError(f"{config.path} has no rows: {first.path} {seen}. Check input.path.")


def _seen(config: InputConfig, files: TableFiles) -> pa.Schema:
    """The columns of a sample, with those that stand in the names of folders.

    Ids may be numbers and texts in one column, which no other column may.
    """
    try:
        return columns_seen(files)
    except InputError:
        if files.form not in _OPEN_FORMS:
            raise
        return columns_seen(files, likely_ids(config.columns))


def _adaption(asked: ColumnMap, files: TableFiles, seen: pa.Schema) -> Adaption:
    resolver = Resolver(seen, asked.columns, _name(files), is_open=files.form in _OPEN_FORMS)
    return resolver.adaption(asked.layout)


def _with_adaption(
    config: InputConfig,
    columns: ColumnMap,
    files: TableFiles,
    adaption: Adaption,
    notes: tuple[str, ...] = (),
    watch: Watch | None = None,
) -> Look:
    adapted = config.model_copy(update={"layout": columns.layout, "columns": columns.columns, "format": "auto"})
    if files.form == "parquet" and adaption.is_plain:
        return Look(adapted, notes=notes)
    refuse_taken(columns.columns)
    notes += tuple(f"Skipped, as input.skip_bad_files says: {problem}" for problem in files.skipped.values())
    if files.left_out:
        notes += (f"Of {files.root} these were left out: {shown_left_out(files.left_out)}.",)
    return Look(adapted, Source(files, adaption, watch), notes)


def _named(config: InputConfig, files: TableFiles, seen: pa.Schema) -> Look:
    named = FORMATS[config.format]
    mapped = map_of(named, seen, config.columns)
    if mapped is None:
        raise InputError(
            f"{_name(files)} does not have the columns of input.format={config.format} ({named.title}); found: "
            f"{shown_columns(seen)}.{_meant(files, seen, config.columns)}"
        )
    watch = Watch(config.format, config.columns, seen, mapped)
    return _with_adaption(config, mapped, files, _adaption(mapped, files, seen), watch=watch)


def _recognised(config: InputConfig, files: TableFiles, seen: pa.Schema) -> Look | None:
    """The one format that fits, where the config names no columns."""
    if not _is_unset(config):
        return None
    if _is_top1000(files, seen):
        files = open_table(config.path, has_header=False, skip_bad=config.skip_bad_files)
        seen = columns_seen(files)
    maps = fitting(seen, config.columns)
    if len(maps) != 1:
        return None
    [(name, mapped)] = maps.items()
    note = f"{config.path} is read as input.format: {name} ({FORMATS[name].title}), which its columns fit."
    watch = Watch(name, config.columns, seen, mapped)
    return _with_adaption(config, mapped, files, _adaption(mapped, files, seen), (note,), watch)


@dataclass(frozen=True)
class Recognised:
    """What lies at a place, and how it may be read."""

    files: TableFiles
    rows: pa.Table
    """The first of them, with all columns."""
    guesses: list[Guess]
    """At least one, the most likely first."""


def recognise(place: str) -> Recognised:
    """Look at a table without a config.

    Raises:
        InputError: Nothing is there, or its columns tell nothing; the message lists them.
        ConfigError: The place cannot be used.
    """
    config = InputConfig(path=place)
    files = _opened(config)
    seen = _seen(config, files)
    if not len(seen):
        raise _without_rows(config, files)
    if _is_top1000(files, seen):
        files = open_table(place, has_header=False)
        seen = _seen(config, files)
    defaults = list(_default_guesses(files, seen))
    named = [guess.columns for guess in defaults]
    likely = [*defaults, *(one for one in guesses(seen, config.columns, _name(files)) if one.columns not in named)]
    if not likely:
        raise InputError(
            f"{place} has the columns {shown_columns(seen)}, and none of them tells by its name that it is a query "
            f"and its documents.{_BY_REFERENCE if is_run(seen) else _BY_HAND}"
        )
    ids = likely_ids(config.columns) if files.form in _OPEN_FORMS else ()
    first = next(read_piece(files, pieces(files)[0], None, ids), None)
    return Recognised(files, seen.empty_table() if first is None else first.table, likely)


def _default_guesses(files: TableFiles, seen: pa.Schema) -> Iterator[Guess]:
    for layout in get_args(Literal["nested", "pairs"]):
        columns = ColumnMap(layout, ColumnsConfig())
        with suppress(InputError):
            _adaption(columns, files, seen)
            yield Guess(columns, "its columns have the default names")


def _is_unset(config: InputConfig) -> bool:
    free = {"passthrough", "separator"}
    return config.layout == "nested" and config.columns.model_dump(exclude=free) == ColumnsConfig().model_dump(
        exclude=free
    )


def _is_top1000(files: TableFiles, seen: pa.Schema) -> bool:
    """Whether the names that were read as a header are a row of two numbers and two texts."""
    names: list[str] = seen.names
    is_row = len(names) == FORMATS[_TOP1000].num_columns and names[0].isdigit() and names[1].isdigit()
    return files.form == "tsv" and is_row


def _refused(config: InputConfig, files: TableFiles, seen: pa.Schema, error: InputError) -> Look:
    """Raises the error, unless planning knows more about all files."""
    hint = _meant(files, seen, config.columns)
    if files.form == "parquet" and config.columns.plain() is not None:
        return Look(config, hint=hint)
    raise InputError(f"{error}{hint}") from None


def _meant(files: TableFiles, seen: pa.Schema, columns: ColumnsConfig) -> str:
    likely = guesses(seen, columns, _name(files))
    if not likely:
        return _BY_REFERENCE if is_run(seen) else ""
    count: Literal["This", "One of these"] = "This" if len(likely) == 1 else "One of these"
    return f" {count} may be meant:\n" + "\n".join(guess.shown() for guess in likely)


def _name(files: TableFiles) -> str:
    return files.files[0].path


def pairs_source(config: InputConfig) -> Source:
    """A table of pairs, whatever order its rows are in, and whether or not it could be read as it is.

    Raises:
        ConfigError: The config asks for what the form of the files does not have.
        InputError: It cannot be read, or has no column with the query or the text.
    """
    asked = config.model_copy(update={"layout": "pairs"})
    try:
        look = look_at(asked)
    except InputError as error:
        try:
            look = look_at(config)
        except InputError:
            raise error from None
    if look.source is not None and look.source.adaption.layout == "pairs":
        return look.source
    if look.config.layout != "pairs":
        raise InputError(
            f"{config.path} has a row for each query, which needs no grouping. Name it in input.path, without "
            "prepare.run."
        )
    refuse_taken(look.config.columns)
    files = _opened(look.config)
    return Source(files, _adaption(ColumnMap("pairs", look.config.columns), files, columns_seen(files)))
