"""The records of a conversion, in the folder of its parts: what it was made from, and which of its tasks are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter

from reranker_batch.core.fingerprint import differences
from reranker_batch.core.mapping import in_threads
from reranker_batch.errors import CommitError, FingerprintError
from reranker_batch.preparing.conversion.task import STAGING, ConvertedPart
from reranker_batch.storage.files.documents import parsed, serialized, typed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.input.reading import CONVERTING as TASKS
from reranker_batch.storage.output.crash_points import Point, reached

RECORD = "_converted.json"
VERSION = 1
"""Counts up whenever the same source would give other prepared input."""
_REMEDY = "Delete this folder, and the same command converts the input again."
_SHOWN_LINES = 20


@dataclass(frozen=True)
class ConversionRecord:
    """`_converted.json`. Without `parts` the conversion is not complete."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    version: int
    settings: dict[str, Any]
    """Form of the files, and which of their columns become which."""
    source: dict[str, dict[str, int | None]]
    """Size and time of each file, by path."""
    piece_bytes: int
    """How the source was cut into tasks."""
    parts: list[ConvertedPart] | None = None
    is_refused: bool = False
    """Whether a row of the source cannot be used: a source that was mended takes its place."""

    @property
    def num_rows(self) -> int:
        return sum(part.num_rows for part in self.parts or ())

    def made_from(self) -> dict[str, Any]:
        """What another conversion must have in common to go on with this one."""
        return {"version": self.version, "input": self.settings, "files": self.source}


_RECORD = TypeAdapter(ConversionRecord)
_TASK = TypeAdapter(dict[Literal["parts"], list[ConvertedPart]])


@dataclass(frozen=True)
class ConversionFolder:
    """Reads and writes the records of a conversion in the folder of its parts."""

    folder: Folder

    def read(self) -> ConversionRecord | None:
        """The record, None where nothing has been converted. Raises CommitError where it is damaged."""
        values = self._document(RECORD)
        return None if values is None else typed(_RECORD, values, self.folder.child(RECORD), remedy=_REMEDY)

    def begin(self, asked: ConversionRecord) -> ConversionRecord:
        """The record to go on with: the one that is there, or else `asked`, which is written.

        Raises:
            FingerprintError: The folder was converted from other files, or with other settings.
            CommitError: It cannot be read or written.
        """
        present = self.read()
        if present is not None and present.is_refused and present.made_from() != asked.made_from():
            self._clear()
            present = None
        if present is None:
            self.write(asked, "conversion_begun")
            return asked
        if lines := differences(present.made_from(), asked.made_from()):
            raise FingerprintError(
                f"{self.folder.uri} holds input that was converted from other files or with other settings:\n  "
                + "\n  ".join(lines[:_SHOWN_LINES])
                + "\nUse another output.path, set these back, or delete that folder if nothing was scored from it."
            )
        return present

    def refuse(self, record: ConversionRecord) -> None:
        """Record that the source cannot be used as it is."""
        self.write(replace(record, is_refused=True))

    def write(self, record: ConversionRecord, point: Point | None = None) -> None:
        """Replace the record in one step. Raises CommitError when it cannot be written."""
        self._write(RECORD, serialized(asdict(record)))
        if point is not None:
            reached(point)

    def tasks_done(self) -> dict[int, list[ConvertedPart]]:
        """The parts of each task that is done, by its number. Raises CommitError for a record that is damaged."""
        numbers = sorted(int(name.partition(".")[0]) for name in self._names(TASKS) if name[0].isdigit())
        return dict(zip(numbers, in_threads(self._task, numbers), strict=True))

    def _task(self, number: int) -> list[ConvertedPart]:
        name = _task_name(number)
        return typed(_TASK, self._document(TASKS, name), self.folder.child(TASKS, name), remedy=_REMEDY)["parts"]

    def write_task(self, number: int, parts: Sequence[ConvertedPart]) -> None:
        """Record that the parts of a task are published. Raises CommitError when it cannot be written."""
        self._write(f"{TASKS}/{_task_name(number)}", serialized({"parts": [asdict(part) for part in parts]}))
        reached("conversion_task_recorded")

    def complete(self, record: ConversionRecord, parts: Sequence[ConvertedPart]) -> ConversionRecord:
        """Record that all is converted, and drop the records of single tasks.

        Raises:
            CommitError: It cannot be written.
        """
        whole = replace(record, parts=list(parts), is_refused=False)
        self.write(whole, "conversion_recorded")
        self._drop(TASKS, STAGING)
        return whole

    def check(self, record: ConversionRecord) -> None:
        """Compare the files of a complete conversion with its record, and drop what it no longer needs.

        Raises:
            CommitError: They differ.
        """
        names, expected = self._names(), {part.name for part in record.parts or ()}
        self._drop(*({TASKS, STAGING} & names))
        if wrong := sorted(expected ^ {name for name in names if not name.startswith("_")}):
            what = "is missing" if wrong[0] in expected else "is not of this conversion"
            raise CommitError(f"{self.folder.child(wrong[0])} {what}. {_REMEDY}")

    def _clear(self) -> None:
        self._drop(TASKS, STAGING)
        for name in self._names():
            self._tried(partial(self.folder.filesystem.delete_file, self.folder.child(name)))

    def _drop(self, *folders: str) -> None:
        for folder in folders:
            with suppress(FileNotFoundError):
                self._tried(partial(self.folder.filesystem.delete_dir, self.folder.child(folder)))

    def _names(self, *inner: str) -> set[str]:
        names: set[str] = self._tried(partial(self.folder.names, *inner))
        return names

    def _document(self, *names: str) -> Any:
        path = self.folder.child(*names)

        def content() -> bytes:
            with self.folder.filesystem.open_input_stream(path) as stream:
                return bytes(stream.read())

        try:
            return parsed(retried(content, f"Reading {path}"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise CommitError(f"{path} cannot be read: {error}. {_REMEDY}") from error

    def _write(self, name: str, content: bytes) -> None:
        filesystem, final = self.folder.filesystem, self.folder.child(name)
        staged = self.folder.child(STAGING, name.rpartition("/")[2])

        def write() -> None:
            for folder in (STAGING, *name.split("/")[:-1]):
                filesystem.create_dir(self.folder.child(folder), recursive=True)
            with filesystem.open_output_stream(staged) as sink:
                sink.write(content)
            filesystem.move(staged, final)

        self._tried(write)

    def _tried(self, call: Any) -> Any:
        try:
            return retried(call, f"Using {self.folder.uri}")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise CommitError(f"{self.folder.uri} cannot be used: {error}") from error


def _task_name(number: int) -> str:
    return f"{number:06d}.json"
