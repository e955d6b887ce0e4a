"""What can be exported, and into what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from reranker_batch.errors import ConfigError
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.output.text_file import write_text_file


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
    rows: int = 0
    """Of a training set."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Queries of labels that the format has no place for, by reason."""

    @property
    def shown(self) -> str:
        """What was written, in words."""
        if self.rows:
            return f"{self.rows:,} rows of {self.queries:,} queries"
        return f"{self.documents:,} results of {self.queries:,} queries"


Options = Mapping[str, str]
Opened = TypeVar("Opened")
Read = TypeVar("Read", contravariant=True)


Pieces = Callable[[Opened, Options, Exported], Iterator[bytes]]
"""Yields the content of a file, piece by piece, and counts what it writes and leaves out."""


def in_one_file(pieces: Pieces[Opened]) -> Callable[[Opened, str, Options, Exported], None]:
    """Writes the pieces to a file that appears in one step."""

    def write(opened: Opened, target: str, options: Options, exported: Exported) -> None:
        write_text_file(target, pieces(opened, options, exported))

    return write


@dataclass(frozen=True)
class Format(Generic[Read]):
    """A format with the names of the options that it takes."""

    name: str
    write: Callable[[Read, str, Options, Exported], None]
    """Writes to a place, and counts what it writes and leaves out."""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source(Generic[Opened]):
    """A kind of folder that can be exported."""

    is_at: Callable[[Folder], bool]
    open: Callable[[str], Opened]
    """Refuses what must not be exported."""
    formats: tuple[Format[Opened], ...]
    check_target: Callable[[Opened, str], None] = lambda opened, target: None
    """Refuses what must not be written to, other than the folder itself."""

    def format(self, name: str, options: Options) -> Format[Opened]:
        """The format of this name. Raises ConfigError where there is none, or it does not take one of the options."""
        known = {format.name: format for format in self.formats}
        if name not in known:
            raise ConfigError(f"--format {name} is not known for this folder. Known: {', '.join(known)}.")
        if extra := sorted(options.keys() - set(known[name].options)):
            takes = ", ".join(f"--{option}" for option in known[name].options) or "no option of its own"
            raise ConfigError(f"--{extra[0]} does not fit --format {name}, which takes {takes}.")
        return known[name]
