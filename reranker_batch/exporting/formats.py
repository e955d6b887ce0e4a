"""What can be exported, and into what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from reranker_batch.errors import ConfigError
from reranker_batch.storage.filesystem import Folder


@dataclass
class Exported:
    """What an export wrote, and what it left out."""

    target: str
    queries: int = 0
    documents: int = 0
    repeated_queries: int = 0
    """Rows whose query id an earlier row has: the first one is written."""
    repeated_documents: int = 0
    """Further places of a document in the list of a query: its best place is written."""
    empty_queries: int = 0
    """Queries without results, which the format has no place for."""


Options = Mapping[str, str]
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Format(Generic[Opened]):
    """A format with the names of the options that it takes."""

    name: str
    write: Callable[[Opened, Options, Exported], Iterator[bytes]]
    """Yields the content of the file, piece by piece, and counts what it writes and leaves out."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source(Generic[Opened]):
    """A kind of folder that can be exported."""

    is_at: Callable[[Folder], bool]
    open: Callable[[str], Opened]
    """Refuses what must not be exported."""
    formats: tuple[Format[Opened], ...]

    def format(self, name: str, options: Options) -> Format[Opened]:
        """The format of this name. Raises ConfigError where there is none, or it does not take one of the options."""
        known = {format.name: format for format in self.formats}
        if name not in known:
            raise ConfigError(f"--format {name} is not known for this folder. Known: {', '.join(known)}.")
        if extra := sorted(options.keys() - set(known[name].options)):
            takes = ", ".join(f"--{option}" for option in known[name].options) or "no option of its own"
            raise ConfigError(f"--{extra[0]} does not fit --format {name}, which takes {takes}.")
        return known[name]
