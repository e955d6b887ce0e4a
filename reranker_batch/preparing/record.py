"""The record of a preparation, next to its parts: what it was made from, and what came of each row."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter

from reranker_batch.core.fingerprint import differences, fingerprint
from reranker_batch.errors import CommitError, ConfigError, FingerprintError
from reranker_batch.preparing.work import WORK
from reranker_batch.storage.files.bucketed import STAGING
from reranker_batch.storage.files.documents import parsed, serialized, typed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried

RECORD = "_prepared.json"
MISSING = "_missing.parquet"
VERSION = 1
_REMEDY = "Delete the folder, and the same command prepares it again."


@dataclass(frozen=True)
class RowCounts:
    """What became of the rows of a run. All but the last five add up to `rows`."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    rows: int = 0
    candidates: int = 0
    """With both texts."""
    missing_documents: int = 0
    missing_queries: int = 0
    """Candidates whose query has no text, whether or not their document has one."""
    cut_by_depth: int = 0
    repeated: int = 0
    """Rows whose query and document a better row has."""
    identical: int = 0
    """Rows whose document id is the id of their query, where these are left out."""
    queries: int = 0
    query_rows: int = 0
    corpus_rows: int = 0
    duplicate_queries: int = 0
    """Rows of the queries whose id was there before, among those that are needed."""
    duplicate_documents: int = 0

    @property
    def accounted(self) -> int:
        missing = self.missing_documents + self.missing_queries
        return self.candidates + missing + self.cut_by_depth + self.repeated + self.identical


@dataclass(frozen=True)
class PreparedRecord:
    """`_prepared.json`. Without counts the preparation is not complete."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    version: int
    kind: Literal["reference", "rows"]
    settings: dict[str, Any]
    sources: dict[str, dict[str, Any]]
    """Size and time of each file by path, for each table."""
    range_bytes: int
    """Of the rows with their texts, what a part has roughly."""
    document_buckets: int
    parts: int = 0
    counts: RowCounts | None = field(default=None)
    is_refused: bool = False
    """Whether a file was refused: another preparation may take its place, and the same one goes on."""

    @property
    def key(self) -> str:
        return fingerprint(asdict(replace(self, counts=None, parts=0, is_refused=False)))

    def made_from(self) -> dict[str, Any]:
        """What another preparation must have in common to go on with this one."""
        return {"version": self.version, "kind": self.kind, "settings": self.settings, "sources": self.sources}


_RECORD = TypeAdapter(PreparedRecord)


@dataclass(frozen=True)
class PreparedFolder:
    """Reads and writes the record of a folder of prepared input."""

    folder: Folder

    @property
    def path(self) -> str:
        return self.folder.child(RECORD)

    def read(self) -> PreparedRecord | None:
        """The record, None where nothing has been prepared.

        Raises:
            CommitError: It is not a record of this program.
        """

        def content() -> bytes:
            with self.folder.filesystem.open_input_stream(self.path) as source:
                return bytes(source.read())

        try:
            values = parsed(retried(content, f"Reading {self.path}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise CommitError(f"{self.path} cannot be read: {error}. {_REMEDY}") from error
        return typed(_RECORD, values, self.path, remedy=_REMEDY)

    def begin(self, asked: PreparedRecord) -> PreparedRecord:
        """The record to go on with: the one that is there, or else `asked`, which is written.

        Raises:
            FingerprintError: The folder was prepared from other files or settings.
            ConfigError: The folder holds other files.
        """
        present = self.read()
        if present is not None and present.is_refused and present.made_from() != asked.made_from():
            self.clear()
            present = None
        if present is None:
            self._refuse_foreign()
            self.write(asked)
            return asked
        if lines := differences(present.made_from(), asked.made_from()):
            raise FingerprintError(
                f"{self.folder.uri} holds input that was prepared from other files or settings:\n  "
                + "\n  ".join(lines[:20])
                + "\nUse another prepare.output or output.path, set these back, or delete the folder."
            )
        return replace(present, is_refused=False)

    def write(self, record: PreparedRecord) -> None:
        """Replace the record in one step. Raises CommitError when it cannot be written."""
        filesystem, staging = self.folder.filesystem, self.folder.folder(WORK).folder(STAGING)
        content = serialized(asdict(record))

        def replace_it() -> None:
            filesystem.create_dir(staging.path, recursive=True)
            with filesystem.open_output_stream(staging.child(RECORD)) as sink:
                sink.write(content)
            filesystem.move(staging.child(RECORD), self.path)

        self._tried(replace_it)

    def drop_work(self) -> None:
        """Delete what only the preparation itself needs. Raises CommitError when it cannot be deleted."""

        def drop() -> None:
            with suppress(FileNotFoundError):
                self.folder.filesystem.delete_dir(self.folder.child(WORK))

        self._tried(drop)

    def clear(self) -> None:
        """Delete all of a preparation that came to nothing, so that another can begin."""
        self.drop_work()
        for name in self.names():
            if name.startswith("part-") or name in (RECORD, MISSING):
                self._tried(partial(self.folder.filesystem.delete_file, self.folder.child(name)))

    def names(self, *inner: str) -> set[str]:
        """What the folder holds, or one inside it."""
        names: set[str] = self._tried(partial(self.folder.names, *inner))
        return names

    def _refuse_foreign(self) -> None:
        if foreign := sorted(self.names() - {WORK, "run"}):
            raise ConfigError(
                f"{self.folder.uri} holds files that no preparation wrote, such as {foreign[0]!r}. Use an empty or a "
                "new folder."
            )

    def _tried(self, call: Any) -> Any:
        try:
            return retried(call, f"Using {self.folder.uri}")
        except OSError as error:
            raise CommitError(f"{self.folder.uri} cannot be written: {error}") from error
