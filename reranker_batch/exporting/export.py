"""The files that evaluation tools and trainers read, written from finished outputs."""

from __future__ import annotations

from typing import Any

from reranker_batch.errors import ConfigError
from reranker_batch.exporting.finished import FinishedOutput
from reranker_batch.exporting.formats import Exported, Source
from reranker_batch.exporting.jsonl import JSONL
from reranker_batch.exporting.labels import FinishedLabels
from reranker_batch.exporting.mteb import MTEB
from reranker_batch.exporting.training import TRAINING_SETS, refuse_foreign
from reranker_batch.exporting.trec import MSMARCO, TREC
from reranker_batch.labels.record import is_labels
from reranker_batch.storage.files.filesystem import Folder
from reranker_batch.storage.files.places import is_within

RESULTS: Source[FinishedOutput] = Source(
    is_at=lambda folder: True, open=FinishedOutput.open, formats=(TREC, MSMARCO, MTEB, JSONL)
)
LABELS: Source[FinishedLabels] = Source(
    is_at=is_labels,
    open=FinishedLabels.open,
    formats=(*TRAINING_SETS, TREC, MTEB),
    check_target=FinishedLabels.check_target,
)
SOURCES: tuple[Source[Any], ...] = (LABELS, RESULTS)
"""The first one that a folder fits is taken."""
TRAINING_NAMES = frozenset(each.name for each in TRAINING_SETS)


def export(output: str, target: str, *, format: str, **options: str | None) -> Exported:
    """Write a complete or accepted output, or complete labels, in a format that other tools read.

    `format` is trec (option `tag`), msmarco, mteb (options `subset` and `split`) or jsonl for an output. The file
    appears in one step, and is compressed if `target` ends with .gz or .zst. A file with other content is not replaced.

    For labels `format` is trec, mteb, st-pair, st-labeled-pair, st-triplet, st-n-tuple, st-list, flagembedding,
    ms-swift or tevatron. All but the first two are training sets: `target` is a new folder. Equal outputs and labels
    give equal bytes.

    Raises:
        ConfigError: The output may not be served, the format cannot hold its ids, there is another file, or the
            arguments are wrong.
        InputError: The labels have no row for this format.
        CommitError: The output cannot be read, or a file cannot be written.
    """
    given = {option: value for option, value in options.items() if value is not None}
    source = next(source for source in SOURCES if source.is_at(Folder.at(output)))
    if source is RESULTS and format in TRAINING_NAMES:
        raise ConfigError(
            f"{output} holds no labels, which --format {format} is made of: run/labels.json is not there. "
            "`reranker-batch label` makes them."
        )
    chosen = source.format(format, given)
    opened = source.open(output)
    _refuse_inside(target, output)
    source.check_target(opened, target)
    exported = Exported(target)
    chosen.write(opened, target, given, exported)
    return exported


def check_target(format: str, target: str, output: str) -> None:
    """Refuse a place for an export of labels that are still to be made.

    Raises:
        ConfigError: It lies in the labels, or is a folder with files of something else.
    """
    _refuse_inside(target, output)
    if format in TRAINING_NAMES:
        refuse_foreign(Folder.at(target))


def _refuse_inside(target: str, output: str) -> None:
    if is_within(target, output):
        raise ConfigError(f"{target} lies in the output, {output}. Give a place outside.")
