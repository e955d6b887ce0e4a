"""Files that one attempt at a run makes for itself: swept when the next one starts, and when the run ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
from pyarrow import fs

from reranker_batch.errors import CommitError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.retrying import retried
from reranker_batch.storage.output.parts import STAGING


@dataclass(frozen=True)
class Scratch:
    """A folder below the run's staging folder. The driver writes it before any other process reads it.

    Processes keep what they have read or mapped, by its path, so that no two attempts may use one path: see `fresh`.
    """

    output: Folder
    name: str

    @classmethod
    def fresh(cls, output: Folder, name: str) -> Scratch:
        """A folder that no other attempt has used."""
        return cls(output, f"{name}-{uuid.uuid4().hex}")

    def path_of(self, file: str) -> str:
        return self.output.child(STAGING, self.name, file)

    def write(self, file: str, content: Iterable[Any]) -> None:
        """Write buffers one after the other; a file that is there is replaced.

        Raises:
            CommitError: It cannot be written.
        """
        path, filesystem = self.path_of(file), self.output.filesystem
        pieces = list(content)

        def write() -> None:
            filesystem.create_dir(self.output.child(STAGING, self.name), recursive=True)
            with filesystem.open_output_stream(path) as sink:
                for piece in pieces:
                    sink.write(piece)

        try:
            retried(write, f"Writing {path}")
        except OSError as error:
            raise CommitError(f"{path} cannot be written: {error}") from error

    def content(self, file: str) -> pa.Buffer:
        """The whole file: mapped where it is on this machine, so that all its processes share it; else read once.

        Raises:
            CommitError: It cannot be read.
        """
        return _content(self, file)

    def read_at(self, file: str, start: int, num_bytes: int) -> pa.Buffer:
        """A piece of a file. Raises CommitError when it cannot be read."""
        path = self.path_of(file)

        def read() -> pa.Buffer:
            with self.output.filesystem.open_input_file(path) as source:
                source.seek(start)
                return source.read_buffer(num_bytes)

        return self.tried(read, path)

    def tried(self, read: Callable[[], pa.Buffer], path: str) -> pa.Buffer:
        try:
            return retried(read, f"Reading {path}")
        except OSError as error:
            raise CommitError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=8)
def _content(scratch: Scratch, file: str) -> pa.Buffer:
    path, filesystem = scratch.path_of(file), scratch.output.filesystem

    def read() -> pa.Buffer:
        if isinstance(filesystem, fs.LocalFileSystem):
            with pa.memory_map(path) as source:
                return source.read_buffer()
        with filesystem.open_input_file(path) as source:
            return source.read_buffer()

    return scratch.tried(read, path)
