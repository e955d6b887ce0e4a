"""Folders with files of their own for a run, queries and documents, as retrieval tools write them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reranker_batch.config import InputConfig, JobConfig
from reranker_batch.config.prepare import PrepareConfig, RunConfig, TextsConfig
from reranker_batch.config.prepare_job import PrepareJob
from reranker_batch.errors import InputError
from reranker_batch.printing import listed
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.walking import Entry, children, single

_SUFFIXES = (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".parquet", ".tsv", ".csv", ".txt", ".trec", ".run")
_RUN_SUFFIXES = (".trec", ".run")
_TEXTS = ("queries", "corpus")


@dataclass(frozen=True)
class FolderFormat:
    """How the files of a folder are called, up to their first dot."""

    title: str
    run: tuple[str, ...]
    queries: tuple[str, ...]
    corpus: tuple[str, ...]
    advice: str
    """Where there is no run."""


FOLDERS: Mapping[str, FolderFormat] = MappingProxyType(
    {
        "beir": FolderFormat(
            "corpus.jsonl, queries.jsonl and a run",
            run=("run", "results", "top_ranked"),
            queries=("queries",),
            corpus=("corpus",),
            advice="Set prepare.run to one; to score the judged pairs, to their file, such as {folder}/qrels/test.tsv",
        ),
        "mteb": FolderFormat(
            "corpus, queries and top_ranked, each a file or a folder",
            run=("top_ranked", "run"),
            queries=("queries",),
            corpus=("corpus",),
            advice="Set prepare.run to one",
        ),
        "trec": FolderFormat(
            "a run, a file with queries or topics, and one with the corpus, the collection or docs",
            run=("run", "results"),
            queries=("queries", "topics"),
            corpus=("corpus", "collection", "docs", "documents"),
            advice="Set prepare.run to one",
        ),
    }
)
"""By the names that `input.format` takes."""


def prepare_settings(config: JobConfig | PrepareJob) -> PrepareConfig | None:
    """What a config prepares: as `prepare` says, and what lies in the folder of `input.format`; None for nothing.

    Raises:
        InputError: The folder lacks a file of the format, or has several that may be meant.
    """
    source = config.input
    if source is None or source.format not in FOLDERS:
        return config.prepare if config.prepare.is_wanted else None
    return _with_files(config.prepare, source, FOLDERS[source.format])


def _with_files(asked: PrepareConfig, source: InputConfig, kind: FolderFormat) -> PrepareConfig:
    folder = Folder.at(source.path)
    entries = children(folder.filesystem, folder.path)
    if not entries:
        what = "is no folder" if single(folder.filesystem, folder.path) is not None else "does not exist"
        raise InputError(
            f"{source.path} {what}, or is empty. input.format={source.format} is a folder with {kind.title}."
        )
    tables: dict[str, Any] = {}
    for key in ("run", *_TEXTS):
        given: RunConfig | TextsConfig = getattr(asked, key)
        if given.path is None:
            tables[key] = given.model_copy(update={"path": _find(key, kind, source, folder, entries)})
    return asked.model_copy(update=tables)


def _find(key: str, kind: FolderFormat, source: InputConfig, folder: Folder, entries: Sequence[Entry]) -> str:
    names = [posixpath.basename(entry.path) for entry in entries]
    matching = [name for name in names if _is_called(name, getattr(kind, key), key)]
    if len(matching) == 1:
        return folder.folder(matching[0]).uri
    seen = f"{source.path} has {listed(names, most=12)}"
    if matching:
        raise InputError(
            f"input.format={source.format}: prepare.{key} may be {' or '.join(matching[:5])}: set it to one. {seen}."
        )
    advice = kind.advice.format(folder=source.path) if key == "run" else f"Set prepare.{key} to its path"
    raise InputError(
        f"input.format={source.format} is a folder with {kind.title}. No {key} ({', '.join(getattr(kind, key))}) is "
        f"there: {seen}. {advice}."
    )


def _is_called(name: str, names: Sequence[str], key: str) -> bool:
    lower = name.lower()
    if key == "run" and lower.removesuffix(".gz").removesuffix(".zst").endswith(_RUN_SUFFIXES):
        return True
    stem, dot, _ = lower.partition(".")
    return stem in names and (not dot or lower.endswith(_SUFFIXES))
