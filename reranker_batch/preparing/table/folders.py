"""Folders that hold queries, documents and their pairs in tables of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from reranker_batch.errors import InputError, first_line
from reranker_batch.storage.files.filesystem import Folder, is_builtin
from reranker_batch.storage.files.retrying import retried
from reranker_batch.uris import split_options

_CORPUS = re.compile(r"(corpus|collection|documents|docs|passages)\b", re.IGNORECASE)
_QUERIES = re.compile(r"(queries|topics|questions)\b", re.IGNORECASE)
_RUN = re.compile(r"(top_ranked|runs?|bm25|results)\b|.*\brun\b.*|.*\.trec(\.gz|\.zst)?$", re.IGNORECASE)
_QRELS = re.compile(r"qrels\b", re.IGNORECASE)
_NO_TABLES = (".yaml", ".yml", ".md", ".py", ".sh", ".log", ".html")
_SPLITS = ("test", "dev", "validation", "train")


@dataclass(frozen=True)
class TableFolder:
    """The places of the tables, for the section `prepare`."""

    run: str
    queries: str
    corpus: str
    is_judged: bool
    """Whether no run is there, so that `run` names the relevance judgments."""

    def section(self) -> dict[str, str]:
        return {"run": self.run, "queries": self.queries, "corpus": self.corpus}


def tables_in(place: str) -> TableFolder | None:
    """The tables of a folder by their names; None where it is no such folder.

    Raises:
        InputError: It cannot be listed.
        ConfigError: The place cannot be used.
    """
    if is_builtin(place):
        return None
    names = _names(place)
    corpus, queries = _first(_CORPUS, names), _first(_QUERIES, names)
    run = _first(_RUN, names - {corpus, queries})
    judged = _first(_QRELS, names)
    if corpus is None or queries is None or (run is None and judged is None):
        return None
    name = run if run is not None else _split_of(place, str(judged))
    return TableFolder(_below(place, name), _below(place, queries), _below(place, corpus), is_judged=run is None)


def _below(place: str, name: str) -> str:
    """A file or folder in a folder, which may be a URI with options."""
    plain, options = split_options(place)
    return f"{plain.rstrip('/')}/{name}{options}"


def _split_of(place: str, judged: str) -> str:
    """One file of a folder of judgments."""
    names = _names(_below(place, judged))
    by_split = (name for split in _SPLITS for name in sorted(names) if name.startswith(split))
    name = next(by_split, min(names, default=None))
    return judged if name is None else f"{judged}/{name}"


def _names(place: str) -> set[str]:
    try:
        names = retried(Folder.at(place).names, f"Listing {place}")
    except NotADirectoryError:
        return set()
    except OSError as error:
        raise InputError(f"{place} cannot be listed: {first_line(error)}.") from error
    return {name for name in names if not name.startswith((".", "_")) and not name.lower().endswith(_NO_TABLES)}


def _first(pattern: re.Pattern[str], names: Iterable[str | None]) -> str | None:
    return min((name for name in names if name is not None and pattern.match(name)), default=None)
