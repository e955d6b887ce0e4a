"""Parts: written aside, verified, then published in one atomic step."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from reranker_batch.core.counts import Counts
from reranker_batch.core.report import MemoFile, PartEntry
from reranker_batch.core.unit_summary import UnitSummary
from reranker_batch.errors import CommitError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.crash_points import Point, reached
from reranker_batch.storage.values import conform_table

SCORES = "scores"
DEAD_LETTERS = "dead_letters"
MEMO = "memo"
STAGING = "run/staging"
_METADATA_KEY = b"reranker_batch"
_MAX_ROW_GROUP_BYTES = 64 << 20
_PUBLISHED: Mapping[str, Point] = {
    SCORES: "part_published",
    DEAD_LETTERS: "dead_letters_published",
    MEMO: "memo_published",
}
_NO_OPTIONS: Mapping[str, Any] = {}


@dataclass(frozen=True)
class DeadLetterFile:
    """The dead letters of a unit, as its part records them."""

    num_rows: int
    sha256: str


@dataclass(frozen=True)
class PartRecord:
    """What a part says of itself in its footer, so that data and record appear in one step.

    The footer also holds the number of rows, which `publish_part` adds.
    """

    unit_id: str
    fingerprint: str
    counts: Counts
    dead_letters: DeadLetterFile | None = None
    """Published before the part; None where the unit has none."""
    memo: MemoFile | None = None
    """Published before the part; None where the run writes no memo."""
    summary: UnitSummary = field(default=UnitSummary())


@dataclass(frozen=True)
class PublishedPart:
    """A part in its final place, as it was read back."""

    record: PartRecord
    num_rows: int
    size_bytes: int
    sha256: str
    rows: pa.Table | None = field(default=None, repr=False, compare=False)
    """Where they were asked for."""

    def entry(self) -> PartEntry:
        """For the report."""
        record = self.record
        return PartEntry(record.unit_id, self.num_rows, self.size_bytes, self.sha256, record.counts, record.memo)

    def as_dead_letters(self) -> DeadLetterFile:
        """For the record of the unit's part, where this is the file with its dead letters."""
        return DeadLetterFile(self.num_rows, self.sha256)

    def as_memo(self) -> MemoFile:
        """For the record of the unit's part, where this is the file with its memo."""
        return MemoFile(self.num_rows, self.size_bytes, self.sha256)


def part_name(unit_id: str) -> str:
    return f"part-{unit_id}.parquet"


def publish_part(
    output: Folder,
    folder: str,
    table: pa.Table,
    schema: pa.Schema,
    record: PartRecord,
    *,
    write_options: Mapping[str, Any] = _NO_OPTIONS,
) -> PublishedPart:
    """Write `table`, cast to `schema`, as the unit's part in `folder`; `write_options` are those of `ParquetWriter`.

    The bytes are staged in the run's own folder, read back and checked, and only then moved to the final
    name, which readers therefore see whole or not at all. A second call replaces the part by an equal one.

    Raises:
        CommitError: The part cannot be written, or what was read back is not what was written.
    """
    content = _serialize(table, schema, record, write_options)
    final = output.child(folder, part_name(record.unit_id))
    part = retried(lambda: _publish(output, final, content, len(table), record.unit_id), f"Writing {final}")
    if folder in _PUBLISHED:
        reached(_PUBLISHED[folder])
    return part


def _publish(output: Folder, final: str, content: pa.Buffer, num_rows: int, unit_id: str) -> PublishedPart:
    staged = output.child(STAGING, f"{unit_id}-{uuid.uuid4().hex}.parquet")
    try:
        with output.filesystem.open_output_stream(staged) as sink:
            sink.write(content)
        reached("part_staged")
        part = _check(output, staged)
        if part.sha256 != hashlib.sha256(content).hexdigest() or part.num_rows != num_rows:
            raise CommitError(f"{staged} does not hold what was written to it.", unit_id=unit_id)
        reached("part_verified")
        output.filesystem.move(staged, final)
    except (OSError, CommitError) as error:
        with suppress(OSError):  # it takes space that may be what is missing
            output.filesystem.delete_file(staged)
        if isinstance(error, CommitError):
            raise
        raise CommitError(f"{final} cannot be written: {error}", unit_id=unit_id) from error
    return part


def _serialize(
    table: pa.Table, schema: pa.Schema, record: PartRecord, options: Mapping[str, Any] = _NO_OPTIONS
) -> pa.Buffer:
    """The file's bytes. Row groups are cut so small that 32-bit offsets hold and readers stay within bounds."""
    values = {**asdict(record), "num_rows": len(table)}
    metadata = {**(schema.metadata or {}), _METADATA_KEY: json.dumps(values, sort_keys=True).encode()}
    sink = pa.BufferOutputStream()
    rows_per_group = max(1, min(len(table), len(table) * _MAX_ROW_GROUP_BYTES // max(table.nbytes, 1)))
    options = {"compression": "zstd", "write_page_checksum": True, **options}
    with pq.ParquetWriter(sink, schema.with_metadata(metadata), **options) as writer:
        for start in range(0, max(len(table), 1), rows_per_group):
            rows = conform_table(table.slice(start, rows_per_group), schema)
            writer.write_table(rows.replace_schema_metadata(metadata))
    return sink.getvalue()


def read_part(
    output: Folder, unit_id: str, *, fingerprint: str | None = None, keep_rows: bool = False
) -> PublishedPart:
    """Read a published part back and check it against its own checksums, and who made it where that is asked.

    Raises:
        CommitError: The part is missing, damaged, not one of ours, or of other settings.
    """
    part = _read(output, SCORES, unit_id, keep_rows=keep_rows)
    path = output.child(SCORES, part_name(unit_id))
    if fingerprint not in (None, part.record.fingerprint):
        raise CommitError(f"{path} was made by other settings than this run's.", unit_id=unit_id)
    file = part.record.dead_letters
    if part.record.counts.num_dead_letters != (file.num_rows if file else 0):
        raise CommitError(f"{path} contradicts itself about its dead letters.", unit_id=unit_id)
    return part


def check_dead_letters(output: Folder, part: PublishedPart, *, is_there: bool) -> None:
    """Compare the dead letters of a unit with the record of its part; `is_there` says whether there is such a file.

    Raises:
        CommitError: The file is missing, damaged or not the one that the part records, or it should not be there.
    """
    recorded, unit_id = part.record.dead_letters, part.record.unit_id
    path = output.child(DEAD_LETTERS, part_name(unit_id))
    _check_presence(path, "dead letters", unit_id, is_recorded=recorded is not None, is_there=is_there)
    if recorded is None:
        return
    if _read(output, DEAD_LETTERS, unit_id).as_dead_letters() != recorded:
        raise CommitError(f"{path} is not the file that was published with the unit's part.", unit_id=unit_id)


def check_memo(output: Folder, part: PublishedPart, *, is_there: bool) -> None:
    """Compare the memo of a unit with the record of its part; `is_there` says whether there is such a file.

    Raises:
        CommitError: The file is missing, damaged or not the one that the part records, or it should not be there.
    """
    recorded, unit_id = part.record.memo, part.record.unit_id
    path = output.child(MEMO, part_name(unit_id))
    if recorded is not None and recorded.num_rows > part.record.counts.scored:
        raise CommitError(f"{path} has more rows than the unit has scores.", unit_id=unit_id)
    _check_presence(path, "memo", unit_id, is_recorded=recorded is not None, is_there=is_there)
    if recorded is None:
        return
    if _read(output, MEMO, unit_id).as_memo() != recorded:
        raise CommitError(f"{path} is not the file that was published with the unit's part.", unit_id=unit_id)


def _check_presence(path: str, content: str, unit_id: str, *, is_recorded: bool, is_there: bool) -> None:
    if is_there and not is_recorded:
        raise CommitError(f"{path} is there, but the unit's part records no {content}.", unit_id=unit_id)
    if is_recorded and not is_there:
        raise CommitError(f"{path} is missing.", unit_id=unit_id)


def read_table(output: Folder, folder: str, unit_id: str) -> pa.Table:
    """Rows of a published part, page checksums checked.

    Raises:
        CommitError: They cannot be read.
    """
    path = output.child(folder, part_name(unit_id))

    def read() -> pa.Table:
        with output.filesystem.open_input_file(path) as source:
            return pq.ParquetFile(source, page_checksum_verification=True).read()

    try:
        return retried(read, f"Reading {path}")
    except (OSError, pa.ArrowException) as error:
        raise CommitError(f"{path} is damaged: {error}", unit_id=unit_id) from error


def _read(output: Folder, folder: str, unit_id: str, *, keep_rows: bool = False) -> PublishedPart:
    path = output.child(folder, part_name(unit_id))
    try:
        part = retried(lambda: _check(output, path, keep_rows=keep_rows), f"Reading {path}")
    except FileNotFoundError:
        raise CommitError(f"{path} is missing.", unit_id=unit_id) from None
    except OSError as error:
        raise CommitError(f"{path} is damaged: {error}", unit_id=unit_id) from error
    if part.record.unit_id != unit_id:
        raise CommitError(f"{path} is the part of another unit, {part.record.unit_id}.", unit_id=unit_id)
    return part


def _check(output: Folder, path: str, *, keep_rows: bool = False) -> PublishedPart:
    """Read the whole file once: its hash, its page checksums, its record. In this thread: callers have many.

    Raises:
        OSError: It cannot be read, or a page does not match its checksum.
        CommitError: It is no part of ours, or has more or fewer rows than it had.
    """
    with output.filesystem.open_input_file(path) as source:
        content = source.read_buffer()
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        rows = file.read(use_threads=False) if keep_rows else None
        num_rows = sum(map(len, file.iter_batches(use_threads=False))) if rows is None else len(rows)
    except pa.ArrowException as error:
        raise CommitError(f"{path} is damaged: {error}") from error
    record, num_recorded = _record_of(file.schema_arrow.metadata, path)
    if num_rows != num_recorded:
        raise CommitError(f"{path} has {num_rows:,} rows and was published with {num_recorded:,}.")
    return PublishedPart(record, num_rows, content.size, hashlib.sha256(content).hexdigest(), rows)


@dataclass(frozen=True)
class _Footer(PartRecord):
    num_rows: int = field(kw_only=True)


_FOOTER = TypeAdapter(_Footer)


def _record_of(metadata: dict[bytes, bytes] | None, path: str) -> tuple[PartRecord, int]:
    try:
        footer = _FOOTER.validate_json((metadata or {})[_METADATA_KEY], strict=True)
    except (KeyError, ValueError):
        raise CommitError(f"{path} carries no record of this program: it is a foreign or a damaged file.") from None
    values = {each.name: getattr(footer, each.name) for each in fields(PartRecord)}
    return PartRecord(**values), footer.num_rows
