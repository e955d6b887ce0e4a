"""List the input, read every footer, cut work units."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

import pyarrow as pa

from reranker_batch.config import Columns, InputConfig, Reading
from reranker_batch.core.memo import MEMO_COLUMN
from reranker_batch.core.units import FileIdentity, WorkUnit, auto_unit_pairs, auto_unit_pairs_with_reuse
from reranker_batch.errors import ConfigError, InputError, first_line
from reranker_batch.storage.files.filesystem import join, resolve
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.columns import FileColumns
from reranker_batch.storage.input.cutting import cut_input
from reranker_batch.storage.input.footers import Footer, check_pages, read_footer
from reranker_batch.storage.input.iceberg import refuse_other_names
from reranker_batch.storage.input.input_file import InputFile, OpenedFile
from reranker_batch.storage.input.layout import InputLayout, layout_of
from reranker_batch.storage.input.likely_ids import id_warnings, likely_ids
from reranker_batch.storage.input.listing import ListedFile, Listing, list_input, shown_left_out
from reranker_batch.storage.input.merging import merge_columns
from reranker_batch.storage.input.origin import Origin
from reranker_batch.storage.input.partitions import (
    Partitions,
    constants_of,
    partitions_above,
    refuse_other_values,
    with_constants,
)
from reranker_batch.storage.input.reading import CONVERTING, PREPARING, mark_of, reading_of
from reranker_batch.storage.input.source import InputSource
from reranker_batch.storage.input.statistics import may_hold_null_ids, value_ranges
from reranker_batch.storage.input.unit_schema import canonical_schema, starting_anew

logger = logging.getLogger(__name__)

_FOOTER_THREADS = 16
_SHOWN_PROBLEMS = 50
_PLACE_COLUMNS = {"query_at", "row", MEMO_COLUMN}
"""Columns that a unit's own tables have in addition to those of the output."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class InputPlan:
    """The input and its work units. The same on every machine that reads the same input.

    `num_queries` is exact. Every row belongs to one unit, in the order of the input. An input without rows is one
    unit without rows.
    """

    source: InputSource
    files: tuple[InputFile, ...]
    units: tuple[WorkUnit, ...]
    num_queries: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Files that cannot be used and are left out because `input.skip_bad_files` says so, each with what is wrong."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """See `Listing.left_out`."""
    warnings: tuple[str, ...] = ()
    """Likely mistakes; each has been logged."""
    partitions: Mapping[str, str | None] = field(default_factory=dict)
    """Columns that are read and stand in the names of the folders above the files' root."""

    @property
    def num_pairs(self) -> int:
        return sum(unit.num_pairs for unit in self.units)

    def identity(self) -> dict[str, dict[str, Any]]:
        """The identity of each file, to detect a changed input; the location does not matter."""
        return {
            "skipped": dict.fromkeys(self.skipped, True),
            "partitions": dict(self.partitions),
            "files": {file.path: {"num_rows": file.num_rows, **asdict(file.identity)} for file in self.files},
        }


def plan_input(config: InputConfig, *, unit_pairs: int | Literal["auto"], is_reuse: bool = False) -> InputPlan:
    """Read all footers and cut the input into work units of about `unit_pairs`; `auto` is more with `is_reuse`, where
    most pairs are not scored.

    Reads no text, except with `layout: pairs`, where the column that tells queries apart is streamed once, and with
    `check_pages`, where everything is.

    Raises:
        InputError: Nothing is there, or files cannot be used: all of them are named, each with what is wrong.
        ConfigError: The path cannot be used.
    """
    listing = retried(lambda: list_input(config.path), f"Listing {config.path}")
    footers = _footers(listing, config)
    reading = _reading(listing, config, footers)
    refuse_own_names(reading.columns)
    listing = replace(listing, is_prepared=reading.prepared is not None)
    opened, skipped = _open_all(listing, config, footers, layout_of(reading))
    columns = merge_columns(((one.file.path, one.columns) for one in opened), reading.columns.passthrough)
    files = [one.file for one in opened]
    num_pairs = sum(sum(file.row_group_pairs) for file in files)
    aim = _auto_aim(files, num_pairs, is_reuse=is_reuse) if unit_pairs == "auto" else unit_pairs
    runs = layout_of(reading).scan_queries(listing.root, opened)
    units = cut_input(
        files,
        unit_pairs=aim,
        starts_anew=starting_anew([one.schema if one.file.num_rows else pa.schema([]) for one in opened]),
        query_starts=None if runs is None else [of_file.starts for of_file in runs],
    )
    num_queries = sum(len(of_file.starts) for of_file in runs) if runs else sum(file.num_rows for file in files)
    warnings = _warn(listing, opened)
    source = InputSource(listing.root, reading, columns, listing.has_partitions)
    above = _partitions_above(listing.root, opened, reading.columns)
    return InputPlan(source, tuple(files), tuple(units), num_queries, skipped, listing.left_out, warnings, above)


def _partitions_above(root: str, opened: Sequence[OpenedFile], names: Columns) -> dict[str, str | None]:
    used = {name for one in opened for name in one.constants} & _asked(names)
    return {name: value for name, value in partitions_above(resolve(root)[1]).items() if name in used}


def _asked(names: Columns) -> set[str]:
    """The columns that decide what is scored and what comes out."""
    single = (names.query_id, names.query, names.doc_id, names.document)
    return {name for name in (*single, *names.passthrough) if name is not None}


def _auto_aim(files: Sequence[InputFile], num_pairs: int, *, is_reuse: bool) -> int:
    if not is_reuse:
        return auto_unit_pairs(num_pairs)
    return auto_unit_pairs_with_reuse(num_pairs, sum(file.unpacked_bytes for file in files))


def refuse_own_names(names: Columns) -> None:
    """Refuse passthrough names that the tables of a unit use themselves.

    `query` is allowed where it is the query's text, which those tables have under that name.

    Raises:
        ConfigError: Names the columns.
    """
    own = _PLACE_COLUMNS if names.query == "query" else _PLACE_COLUMNS | {"query"}
    if taken := sorted(set(names.passthrough) & own):
        raise ConfigError(
            f"input.columns.passthrough: {', '.join(taken)} is a name that the job needs itself. "
            "Rename it in the input."
        )


def _footers(listing: Listing, config: InputConfig) -> list[Footer | str]:
    """Of each file, or what is wrong with it."""
    filesystem, root = resolve(listing.root)

    def read_one(listed: ListedFile) -> Footer | str:
        try:
            path = join(root, listed.path)
            footer = retried(lambda: read_footer(filesystem, path), f"Reading {path}")
            if config.check_pages:
                identity = _identity_of(listed, footer)
                retried(lambda: check_pages(filesystem, path, identity), f"Reading {path}")
        except (InputError, OSError) as error:
            return f"{listed.path} cannot be used: {first_line(error)}."
        return footer

    return _in_threads(read_one, listing.files, _FOOTER_THREADS)


def _reading(listing: Listing, config: InputConfig, footers: Sequence[Footer | str]) -> Reading:
    named = zip(listing.files, footers, strict=True)
    whole = [(listed.path, footer) for listed, footer in named if isinstance(footer, Footer)]
    reading = reading_of(config, [(path, footer.schema, mark_of(footer.metadata.metadata)) for path, footer in whole])
    if reading.prepared is not None and (unfinished := sorted({PREPARING, CONVERTING} & {*listing.left_out})):
        raise InputError(
            f"{config.path} is being prepared, or that was interrupted: {unfinished[0]}/ is there. Wait, or let the "
            "command that began it finish."
        )
    return reading


def _open_all(
    listing: Listing, config: InputConfig, footers: Sequence[Footer | str], layout: InputLayout
) -> tuple[list[OpenedFile], dict[str, str]]:
    """The usable files, and the problem of each other file by path."""

    def open_one(at: int) -> OpenedFile | str:
        footer = footers[at]
        if isinstance(footer, str):
            return footer
        try:
            return _open(listing.files[at], footer, listing, layout)
        except InputError as error:
            return str(error)

    results = [open_one(at) for at in range(len(footers))]
    named = zip(listing.files, results, strict=True)
    problems = {listed.path: result for listed, result in named if isinstance(result, str)}
    if problems and (len(problems) == len(results) or not config.skip_bad_files):
        raise InputError(_listed([*problems.values()], len(results), listing.root))
    for problem in problems.values():
        logger.warning("Skipped, as input.skip_bad_files says: %s", problem)
    return [result for result in results if not isinstance(result, str)], problems


def _warn(listing: Listing, opened: Sequence[OpenedFile]) -> tuple[str, ...]:
    warnings = [*id_warnings([one.likely_ids for one in opened])]
    if listing.left_out:
        warnings.append(f"Of {listing.root} these were left out: {shown_left_out(listing.left_out)}.")
    for warning in warnings:
        logger.warning("%s", warning)
    return tuple(warnings)


def _open(listed: ListedFile, footer: Footer, listing: Listing, layout: InputLayout) -> OpenedFile:
    if listed.size_bytes not in (0, footer.size_bytes):  # 0 where the store does not tell
        raise InputError(
            f"{listed.path} cannot be used: it had {listed.size_bytes} bytes when it was listed and has "
            f"{footer.size_bytes} now, so somebody is writing it."
        )
    own = footer.schema
    groups = [footer.metadata.row_group(number) for number in range(footer.metadata.num_row_groups)]
    constants = _constants(listed, listing, footer, layout)
    schema = with_constants(own, constants)
    columns = layout.inspect(schema, listed.path)
    rows = tuple(group.num_rows for group in groups)
    columns = replace(columns, ranges=value_ranges(groups, own, _passthrough_places(layout, columns)))
    file = InputFile(
        listed.path,
        footer.metadata.num_rows,
        _identity_of(listed, footer),
        rows,
        layout.num_pairs(groups, schema),
        sum(group.total_byte_size for group in groups),
    )
    query_id = layout.names.query_id
    has_null_ids = query_id in constants or may_hold_null_ids(groups, own, query_id)
    fields = layout.id_fields(schema, columns.shape)
    likely = likely_ids(
        schema, layout.names, columns, listed.path, document_fields=fields, is_row_a_query=layout.is_row_a_query
    )
    origin = Origin.of(footer.metadata.metadata)
    return OpenedFile(file, columns, canonical_schema(schema), has_null_ids, constants, likely, origin)


def _constants(listed: ListedFile, listing: Listing, footer: Footer, layout: InputLayout) -> Partitions:
    """The columns in the names of a file's folders; what the file says itself must be what is asked for."""
    groups = [footer.metadata.row_group(number) for number in range(footer.metadata.num_row_groups)]
    asked = _asked(layout.names)
    if listing.table and listing.table.field_names:
        schema = footer.metadata.schema.to_arrow_schema()
        refuse_other_names(listing.table.field_names, listed.path, schema, asked | {layout.names.candidates})
    if not listing.has_partitions:
        return {}
    refuse_other_values(listed.path, asked, footer.schema, groups)
    return constants_of(resolve(listing.root)[1], listed.path, layout.own_names(footer.schema))


def _passthrough_places(layout: InputLayout, columns: FileColumns) -> dict[str, tuple[str, str | None, pa.DataType]]:
    """Column, field and type by name."""
    inner = {name: (*layout.leaf_of(name), data_type) for name, data_type in columns.candidate_passthrough.items()}
    return inner | {name: (name, None, data_type) for name, data_type in columns.query_passthrough.items()}


def _identity_of(listed: ListedFile, footer: Footer) -> FileIdentity:
    return FileIdentity(footer.size_bytes, listed.modified_ns, footer.digest)


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item], num_threads: int) -> list[Result]:
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(function, items))


def _listed(problems: Sequence[str], num_files: int, root: str) -> str:
    if len(problems) == 1:
        return f"{problems[0]} (input: {root})"
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
    more = f"\n  and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return f"{len(problems)} of {num_files} files of {root} cannot be used:\n{shown}{more}"
